package group

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"

	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/jobs/aggregate"
)

type quantile struct {
	rank               aggregate.Rank
	exists             bool
	number, nextNumber aggregate.Number
}

// numberColumn collects one group's numbers from one column, for quantiles. It holds the numbers in
// memory. If the numbers do not fit, or a float cannot represent one of them, it uses a sorter.
type numberColumn struct {
	r          *rowBuilder
	mem        []byte
	floats     []float64
	sorter     *extsort.Sorter
	writer     *extsort.Writer
	valueCount uint64
	text       []byte
	key        []byte
}

// newNumberColumn returns a column that uses the given memory, in bytes. Its sorter may use twice
// as much in addition.
func newNumberColumn(r *rowBuilder, memory int64) (*numberColumn, error) {
	mem, floats, err := allocateNumbers(memory)
	return &numberColumn{r: r, mem: mem, floats: floats[:0]}, err
}

func (c *numberColumn) close() (err error) {
	offheap.Release(c.mem)
	c.mem, c.floats = nil, nil
	if c.sorter != nil {
		err = c.sorter.Close()
		c.sorter = nil
	}
	return err
}

func (c *numberColumn) addFloats(rec []byte) error {
	if len(rec)%8 != 0 {
		return errPart
	}
	for ; len(rec) > 0; rec = rec[8:] {
		x := math.Float64frombits(binary.LittleEndian.Uint64(rec))
		c.valueCount++
		switch {
		case c.sorter != nil:
			if err := c.sortFloat(x); err != nil {
				return err
			}
		case len(c.floats) == cap(c.floats):
			if err := c.startSorter(); err != nil {
				return err
			}
			c.valueCount--
			return c.addFloats(rec)
		default:
			c.floats = append(c.floats, x)
		}
	}
	return nil
}

// addWide adds an integer that a float cannot represent exactly.
func (c *numberColumn) addWide(text []byte) error {
	c.valueCount++
	if c.sorter == nil {
		if err := c.startSorter(); err != nil {
			return err
		}
	}
	return c.sort(text, 0, text)
}

func (c *numberColumn) startSorter() (err error) {
	j := c.r.engine.job
	c.sorter, err = extsort.New(j.Ctx, &extsort.Options{Memory: 2 * int64(len(c.mem)), Threads: j.Threads, Temp: j.TempSet})
	if err != nil {
		return err
	}
	c.writer, err = c.sorter.Writer()
	if err != nil {
		return err
	}
	for _, x := range c.floats {
		if err := c.sortFloat(x); err != nil {
			return err
		}
	}
	c.floats = c.floats[:0]
	return nil
}

// sortFloat passes a float to the sorter. A large float, which is always an integer, is sorted by all
// its digits, because its shortest text can be on the wrong side of another integer. An equal integer
// sorts before the float.
func (c *numberColumn) sortFloat(x float64) error {
	c.text = strconv.AppendFloat(c.text[:0], x, 'e', -1, 64)
	digits := c.text
	if math.Abs(x) >= 1<<53 {
		digits = strconv.AppendFloat(nil, x, 'f', 0, 64)
	}
	return c.sort(digits, 1, c.text)
}

// sort passes a number to the sorter, which copies text. Equal numbers are in the order of kind.
func (c *numberColumn) sort(digits []byte, kind byte, text []byte) error {
	c.key, _ = extsort.AppendDecimal(c.key[:0], digits) // cannot fail: digits is always a number
	c.key = append(c.key, kind)
	return c.writer.Add(c.key, text)
}

func (r *rowBuilder) findQuantiles() error {
	for i, c := range r.numbers {
		var pending []*quantile
		for k, s := range r.engine.specs {
			if s.Func != aggregate.Quantile || r.engine.specColumns[k].First != r.engine.quantileColumns[i] {
				continue
			}
			if err := r.checkCount(k, c.valueCount); err != nil {
				return err
			}
			q := &r.quantiles[k]
			q.rank, q.exists = r.engine.program.Rank(k, r.words)
			if q.exists {
				pending = append(pending, q)
			}
		}
		if len(pending) > 0 {
			if err := c.find(pending); err != nil {
				return err
			}
		}
	}
	return nil
}

// find sets, for each quantile, the number at its rank and the next number in sorted order. Then it
// empties the column. The caller must have added all numbers.
func (c *numberColumn) find(quantiles []*quantile) (err error) {
	if c.sorter != nil {
		err = c.findSorted(quantiles)
	} else {
		slices.SortFunc(quantiles, func(a, b *quantile) int { return int(int64(a.rank.Index) - int64(b.rank.Index)) })
		remaining, skipped := c.floats, 0
		for _, q := range quantiles {
			i := int(q.rank.Index) - skipped
			selectNumber(remaining, i)
			q.number = aggregate.Float(remaining[i])
			q.nextNumber = q.number
			if i+1 < len(remaining) {
				q.nextNumber = aggregate.Float(slices.Min(remaining[i+1:]))
			}
			remaining, skipped = remaining[i:], skipped+i
		}
	}
	c.floats, c.valueCount = c.floats[:0], 0
	return err
}

func (c *numberColumn) findSorted(quantiles []*quantile) error {
	if err := c.writer.Close(); err != nil {
		return err
	}
	var n uint64
	for b, err := range c.sorter.Sorted() {
		if err != nil {
			return fmt.Errorf("sorting the numbers of a group: %w", err)
		}
		for i := range b.Len() {
			for _, q := range quantiles {
				if n-q.rank.Index <= 1 {
					q.nextNumber, _ = aggregate.ParseNumber(b.Record(i))
				}
				if n == q.rank.Index {
					q.number = q.nextNumber
				}
			}
			n++
		}
	}
	err := c.sorter.Close()
	c.sorter, c.writer = nil, nil
	return err
}

// selectNumber reorders list so that list[rank] is the number that sorting would put there. Smaller
// numbers are then before this number, and larger ones after it (Hoare 1961).
func selectNumber(list []float64, rank int) {
	tries := 2 * bits.Len(uint(len(list)))
	for from, to := 0, len(list)-1; from < to; tries-- {
		if tries < 0 { // the pivots were bad, perhaps because the input is hostile
			slices.Sort(list[from : to+1])
			return
		}
		a, b, c := list[from], list[from+(to-from)/2], list[to]
		pivot := max(min(a, b), min(max(a, b), c)) // the median of three
		i, k := from, to
		for i <= k {
			for list[i] < pivot {
				i++
			}
			for list[k] > pivot {
				k--
			}
			if i <= k {
				list[i], list[k] = list[k], list[i]
				i, k = i+1, k-1
			}
		}
		switch {
		case rank <= k:
			to = k
		case rank >= i:
			from = i
		default:
			return
		}
	}
}
