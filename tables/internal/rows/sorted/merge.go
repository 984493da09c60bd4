package sorted

import (
	"context"
	"iter"
	"slices"
	"sort"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

// Merge yields the rows of sources in key order and applies rule to rows with equal keys. All sources must have the
// same columns, but a source with Hides set needs only the key columns. memory is a limit, in bytes: if the open
// sources would use more, Merge first merges some of them through temporary files.
func Merge(ctx context.Context, rule Rule, memory int64, sources ...Source) batches.Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		m := &merge{rule: rule, out: output{yield: yield, minRows: firstBatchRows}}
		defer m.close()
		for rank, s := range bundle(ctx, sources, memory) {
			m.pending = append(m.pending, &cursor{Source: s, rank: rank})
		}
		slices.SortStableFunc(m.pending, func(a, b *cursor) int { return a.compareLowest(b.Source) })
		err := m.run(ctx)
		if err == nil && !m.out.stopped {
			err = m.out.flush()
		}
		if err != nil && !m.out.stopped {
			yield(nil, err)
		}
	}
}

type merge struct {
	rule    Rule
	pending []*cursor // sources that are not open yet, in order of their lowest values
	open    cursors
	out     output

	// heldBlock and heldRow identify a row that is held back, because the next row may have the same keys. heldBlock is
	// nil if no row is held back.
	heldBlock    *block
	heldRow      int
	heldIsHidden bool // the held row's source has Hides set
}

// block is a batch and its key columns.
type block struct {
	batch    arrow.RecordBatch
	keys     keys
	rowBytes int64
	slot     int // index of the batch in output.batches
}

// cursor is the current row of a source.
type cursor struct {
	Source
	rank int
	next func() (arrow.RecordBatch, error, bool)
	stop func()
	*block
	row  int
	word uint64 // the first word of the current row
}

func (c *cursor) moveTo(row int) { c.row, c.word = row, c.keys[0].word(row) }

// precedes reports whether a row of c, whose first word is given, comes before o's current row.
func (c *cursor) precedes(row int, word uint64, o *cursor) bool {
	if word != o.word {
		return word < o.word
	}
	n := 0
	if len(c.keys) > 1 || !c.keys[0].isComplete(word, 0) {
		n = c.keys.compare(row, o.keys, o.row)
	}
	return n < 0 || n == 0 && c.rank < o.rank
}

// cursors is a heap, ordered by the current rows.
type cursors []*cursor

func (c cursors) less(i, j int) bool { return c[i].precedes(c[i].row, c[i].word, c[j]) }

func (c *cursors) add(added *cursor) {
	*c = append(*c, added)
	h := *c
	for i := len(h) - 1; i > 0 && h.less(i, (i-1)/2); i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
}

// fix restores the order after the first cursor has moved.
func (c cursors) fix() {
	for i, child := 0, 1; child < len(c); i, child = child, 2*child+1 {
		if child+1 < len(c) && c.less(child+1, child) {
			child++
		}
		if !c.less(child, i) {
			return
		}
		c[i], c[child] = c[child], c[i]
	}
}

func (c *cursors) removeFirst() {
	last := len(*c) - 1
	(*c)[0] = (*c)[last]
	*c = (*c)[:last]
	c.fix()
}

// advance moves to the next nonempty batch and reports whether there is one.
func (c *cursor) advance() (bool, error) {
	if c.block != nil {
		c.batch.Release()
		c.block = nil
	}
	for {
		batch, err, ok := c.next()
		if err != nil || !ok {
			return false, err
		}
		if batch.NumRows() == 0 {
			batch.Release()
			continue
		}
		k, err := keysOf(batch, c.Keys)
		if err != nil {
			batch.Release()
			return false, err
		}
		c.block = &block{batch: batch, keys: k, rowBytes: batches.RowBytes(batch)}
		c.moveTo(0)
		return true, nil
	}
}

func (m *merge) close() {
	for _, c := range m.open {
		c.stop()
		if c.block != nil {
			c.batch.Release()
		}
	}
	m.hold(nil, 0, false)
	m.out.drop()
}

// openDue opens the pending sources that may have rows before the open sources' next row.
func (m *merge) openDue() error {
	for len(m.pending) > 0 {
		c := m.pending[0]
		if len(m.open) > 0 && c.Bounds != nil && m.open[0].firstKeyAt(m.open[0].row) < c.Bounds.Lowest {
			return nil
		}
		m.pending = m.pending[1:]
		c.next, c.stop = iter.Pull2(c.Batches)
		ok, err := c.advance()
		if ok {
			m.open.add(c)
			continue
		}
		c.stop()
		if err != nil {
			return err
		}
	}
	return nil
}

// firstKeyAt returns a row's first key as a number, or the smallest number for a null.
func (c *cursor) firstKeyAt(row int) int64 {
	if n, ok := c.keys[0].(*ints); ok && !n.IsNull(row) {
		return n.values[row]
	}
	return -1 << 63
}

// run merges all rows into out. Each step adds the rows that come next from a single source.
func (m *merge) run(ctx context.Context) error {
	for !m.out.stopped {
		if err := canceled.Err(ctx); err != nil {
			return err
		}
		if err := m.openDue(); err != nil {
			return err
		}
		if len(m.open) == 0 {
			return m.releaseHeld()
		}
		c := m.open[0]
		end := m.runEnd(c)
		if err := m.applyRule(c, end); err != nil {
			return err
		}
		if int64(end) < c.batch.NumRows() {
			c.moveTo(end)
			m.open.fix()
			continue
		}
		ok, err := c.advance()
		if err != nil {
			return err
		}
		if ok {
			m.open.fix()
		} else {
			c.stop()
			m.open.removeFirst()
		}
	}
	return nil
}

// runEnd returns the index of the first row in c's batch before which another source may have rows. The rows up to it
// can be copied as one run. c's current row must be the first of all current rows.
func (m *merge) runEnd(c *cursor) int {
	var nextCursor *cursor
	for i := 1; i < min(3, len(m.open)); i++ {
		if nextCursor == nil || m.open.less(i, 1) {
			nextCursor = m.open[i]
		}
	}
	n := int(c.batch.NumRows())
	inRun := func(row int) bool {
		if nextCursor != nil && !c.precedes(row, c.keys[0].word(row), nextCursor) {
			return false
		}
		return len(m.pending) == 0 || c.firstKeyAt(row) < m.pending[0].Bounds.Lowest
	}
	if nextCursor == nil && len(m.pending) == 0 {
		return n
	}
	// Search with doubling steps: runs are short if sources interleave, and long if they do not.
	step, low := 1, c.row+1 // the current row always belongs to the run
	for low < n && inRun(min(low+step, n)-1) {
		low, step = min(low+step, n), 2*step
	}
	return low + sort.Search(min(step, n-low), func(i int) bool { return !inRun(low + i) })
}

// applyRule applies the rule to the rows from a cursor's current row up to end.
func (m *merge) applyRule(c *cursor, end int) error {
	if m.rule == All {
		if c.Hides {
			return nil
		}
		return m.out.add(c.block, c.row, end)
	}
	for row := c.row; row < end; row++ {
		start := row
		equal := m.heldBlock != nil && m.heldBlock.keys.compare(m.heldRow, c.keys, row) == 0
		switch {
		case equal && m.rule == First:
			continue
		case equal && m.rule == Extra:
			if !c.Hides {
				if err := m.out.add(c.block, row, row+1); err != nil {
					return err
				}
			}
			continue
		case !equal:
			if err := m.releaseHeld(); err != nil {
				return err
			}
		}
		row = c.lastDistinct(row, end)
		if start < row && !c.Hides && m.rule != Extra {
			if err := m.out.add(c.block, start, row); err != nil {
				return err
			}
		}
		m.hold(c.block, row, c.Hides)
	}
	return nil
}

// lastDistinct returns the index of the first row, starting at row, whose successor has the same keys. If there is no
// such row before end, it returns the last row before end.
func (b *block) lastDistinct(row, end int) int {
	firstKey, hasFastKey := b.keys[0].(*ints)
	hasFastKey = hasFastKey && firstKey.NullN() == 0
	for ; row+1 < end; row++ {
		differs := hasFastKey && firstKey.values[row] != firstKey.values[row+1]
		if !differs && b.keys.compare(row, b.keys, row+1) == 0 {
			break
		}
	}
	return row
}

// hold keeps a row back until the next row shows whether both have the same keys.
func (m *merge) hold(b *block, row int, hide bool) {
	if b != m.heldBlock {
		if b != nil {
			b.batch.Retain()
		}
		if m.heldBlock != nil {
			m.heldBlock.batch.Release()
		}
	}
	m.heldBlock, m.heldRow, m.heldIsHidden = b, row, hide
}

// releaseHeld yields the held row if the rule keeps it. It may be called only if no later row has the same keys.
func (m *merge) releaseHeld() error {
	if m.heldBlock == nil || m.heldIsHidden || m.rule == Extra || m.rule == All {
		return nil
	}
	return m.out.add(m.heldBlock, m.heldRow, m.heldRow+1)
}
