package group

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/engine/hashagg"
	"github.com/go-partd/partd/internal/jobs/aggregate"
	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/internal/jobs/records"
)

// batchLen is the number of records that are aggregated together. Batches are faster than single
// records, because the processor can fetch several groups' states from memory at the same time.
const batchLen = 256

// worker aggregates records in one goroutine.
type worker struct {
	engine  *engine
	table   *hashagg.Table
	pairs   []*hashagg.Table
	records int64

	// The current batch of records:
	keys   [][]byte
	values *aggregate.Values
	texts  [][]byte // valueCount values for each record, if there are distinctColumns
	keyBuf []byte   // memory for encoded keys

	byColumns bool             // records can be split by columns: see addColumns
	columns   *records.Columns // records split by columns

	writer     *extsort.Writer // passes data to the sorter; if values are sorted, each block has its own writer
	lists      numberLists
	single     [1][]uint64 // state of a group that consists of one record
	pairBuf    []byte
	recordBuf  []byte
	sortKeyBuf []byte
	err        error
}

func newWorker(g *engine) (w *worker, err error) {
	w = &worker{
		engine: g, keys: make([][]byte, 0, batchLen), values: g.program.NewValues(batchLen),
		byColumns: !g.sortsValues() && len(g.distinctColumns) == 0 && g.job.From.Format != records.JSONL,
		pairs:     make([]*hashagg.Table, len(g.pairs)),
	}
	if w.byColumns {
		w.columns = records.NewColumns(len(g.fields), batchLen)
	}
	w.single[0] = make([]uint64, g.program.Words+len(g.quantileColumns))
	for i, a := range g.pairs {
		w.pairs[i], err = a.Table()
		if err != nil {
			return nil, err
		}
	}
	w.table, err = g.numbers.Table()
	if err != nil {
		return nil, err
	}
	w.table.DrainTo(w.flush)
	w.table.AllowBypass()
	if len(g.quantileColumns) > 0 {
		memory := max(g.shareSize/int64(g.job.Threads), extsort.MinMemory/16)
		w.lists.mem, w.lists.numbers, err = allocateNumbers(memory)
		if err != nil {
			return nil, err
		}
		g.job.CloseLater(w.lists.close)
	}
	if !g.sortsValues() {
		w.writer, err = g.sorter.Writer()
	}
	return w, err
}

func (w *worker) close() error {
	var errs []error
	for _, t := range w.pairs {
		errs = append(errs, t.Close())
	}
	return errors.Join(errs...)
}

func (g *engine) addBlock(b *records.Block) (err error) {
	w := g.workers[b.Worker]
	sorts := g.sortsValues()
	if sorts {
		for n := g.batches.Load(); n <= b.Seq && !g.batches.CompareAndSwap(n, b.Seq+1); {
			n = g.batches.Load()
		}
		w.writer, err = g.sorter.Batch(uint64(b.Seq))
		if err != nil {
			return err
		}
		defer func() { err = filejobs.JoinErrors(err, w.writer.Close()) }()
	}
	limit := min(w.table.MaxKey(), g.maxKeyLen)
	single := 0 // number of records to split one by one before the next addColumns
	for {
		if len(w.keys) == batchLen {
			if err := w.aggregate(); err != nil {
				return err
			}
		}
		if w.byColumns && single == 0 {
			single = w.addColumns(b, limit)
			if single == 0 {
				continue
			}
		}
		single--
		if !b.Next() {
			break
		}
		values := b.Fields[g.keyCount:]
		if bad := g.program.Parse(w.values, len(w.keys), values); bad >= 0 {
			b.MarkBad(g.wrongValue(values[bad], bad))
			continue
		}
		var key []byte
		key, w.keyBuf = g.job.KeyBy(w.keyBuf, b.Fields[:g.keyCount], b.Unquoted)
		if len(key) > limit {
			filejobs.ReportLongKey(b, len(key), limit)
			continue
		}
		for k, col := range g.distinctColumns {
			n := len(key) + len(values[col])
			if limit := w.pairs[k].MaxKey() - binary.MaxVarintLen32; n > limit {
				filejobs.ReportLongKey(b, n, limit)
			}
		}
		w.keys = append(w.keys, key)
		if len(g.distinctColumns) > 0 {
			w.texts = append(w.texts, values...)
		}
		if sorts {
			if err := w.sendValues(key, values, b.Unquoted[g.keyCount:]); err != nil {
				return filejobs.ReportTooLong(b, err)
			}
		}
	}
	n, _ := b.Tally()
	w.records += n
	// Aggregate the remaining records now, because the block is reused after this call.
	return w.aggregate()
}

func (w *worker) aggregate() error {
	n := w.engine.valueCount
	var err error
	if w.table.Bypass(w.keys) {
		err = w.sendRecords()
	} else {
		err = w.table.GetStates(w.keys, w.add)
	}
	err = cmp.Or(err, w.err)
	if err == nil && w.lists.needsFlush {
		err = w.flush()
	}
	for k, col := range w.engine.distinctColumns {
		for i, key := range w.keys {
			value := w.texts[i*n+col]
			if err != nil || len(value) == 0 {
				continue
			}
			w.pairBuf = append(binary.AppendUvarint(w.pairBuf[:0], uint64(len(key))), key...)
			w.pairBuf = append(w.pairBuf, value...)
			_, _, err = w.pairs[k].Get(w.pairBuf)
		}
	}
	w.keys, w.keyBuf, w.texts = w.keys[:0], w.keyBuf[:0], w.texts[:0]
	return err
}

// add adds the batch's records, starting at index first, to the states of their groups.
func (w *worker) add(first int, states [][]uint64) {
	g := w.engine
	g.program.Add(states, w.values, first)
	for k, col := range g.quantileColumns {
		word := g.program.Words + k
		w.lists.prefetch(states, word)
		for i, state := range states {
			if n := first + i; w.values.Present[col][n] && w.err == nil {
				w.err = w.addNumber(k, &state[word], w.keys[n], w.values.Numbers[col][n])
			}
		}
	}
}

func (g *engine) wrongValue(value []byte, col int) error {
	_, isNumber := aggregate.ParseNumber(value)
	_, isBool := aggregate.ParseBool(value)
	for i, s := range g.specs {
		p := g.specColumns[i]
		switch {
		case p.First != col && p.Second != col:
		case s.NeedsNumbers() && !isNumber:
			return fmt.Errorf("%s needs a number, not %s%s", s.Text, filejobs.QuoteShort(value), aggregate.CommaHint(value))
		case s.NeedsBooleans() && !isBool:
			return fmt.Errorf("%s needs true or false, not %s", s.Text, filejobs.QuoteShort(value))
		}
	}
	return fmt.Errorf("%s is not a valid value for an aggregate", filejobs.QuoteShort(value))
}

// A group's data in the sorter consists of parts. Each part begins with its kind. If the mode of a
// column is requested, a group's parts are sorted by kind.
const (
	aggregatedPart = iota // record count, the words of the state and, if parts are sorted, the key
	distinctPart          // the number of distinct values of each column
	storedPart            // the stored values in a record
	modePart              // index in modeColumns; 1 if the value is bare JSON, otherwise 0; the value
	numbersPart           // index in quantileColumns; numbers as 64-bit floats
	wideNumberPart        // index in quantileColumns; an integer that no float can represent
)

// encodeStored encodes a record's stored values. Before a value of n bytes, it writes 2n+1, or 2n+2
// if the value is bare JSON (a number or boolean). For a missing value, it writes only 0.
func (w *worker) encodeStored(values [][]byte, bare []bool) []byte {
	rec := append(w.recordBuf[:0], storedPart)
	for _, col := range w.engine.storedColumns {
		v := values[col]
		if v == nil {
			rec = append(rec, 0)
			continue
		}
		head := 2*uint64(len(v)) + 1
		if bare[col] {
			head++
		}
		rec = append(binary.AppendUvarint(rec, head), v...)
	}
	w.recordBuf = rec
	return rec
}

// addColumns adds records from a block to the batch, column by column, which is faster than one
// record after another. It returns the number of records that Next must split instead, or 0. These
// are all records of a batch with an invalid value or a key longer than limit, or several records
// if NextColumns cannot split the first one.
func (w *worker) addColumns(b *records.Block, limit int) int {
	g, c, first := w.engine, w.columns, len(w.keys)
	n := b.NextColumns(c, batchLen-first)
	if n == 0 {
		return 16 // not only 1, because further records are likely to have a quote too
	}
	ok := true
	for col := 0; col < g.valueCount && ok; col++ {
		from, to := c.From[g.keyCount+col][:n], c.To[g.keyCount+col][:n]
		ok = g.program.ParseColumn(w.values, first, col, c.Data, from, to)
	}
	if ok {
		w.appendKeys(n)
		ok = !slices.ContainsFunc(w.keys[first:], func(key []byte) bool { return len(key) > limit })
	}
	if !ok {
		w.keys = w.keys[:first]
		b.UndoColumns()
		return n
	}
	return 0
}

// appendKeys appends the keys of the first n records in w.columns to w.keys. It encodes
// them as job.KeyBy does.
func (w *worker) appendKeys(n int) {
	c, count := w.columns, w.engine.keyCount
	if count == 1 {
		to := c.To[0][:n]
		for i, from := range c.From[0][:n] {
			w.keys = append(w.keys, c.Data[from:to[i]])
		}
		return
	}
	buf := slices.Grow(w.keyBuf, 8*n*count)
	for i := range n {
		start := len(buf)
		for k := range count {
			from, to := int(c.From[k][i]), int(c.To[k][i])
			if size := to - from; size <= 6 && from+8 <= len(c.Data) && len(buf)+8 <= cap(buf) {
				if word, ok := filejobs.ShortKey(binary.LittleEndian.Uint64(c.Data[from:]), size); ok {
					binary.LittleEndian.PutUint64(buf[len(buf):len(buf)+8], word)
					buf = buf[:len(buf)+size+2]
					continue
				}
			}
			buf = filejobs.AppendKey(buf, [][]byte{c.Data[from:to]}, nil)
		}
		w.keys = append(w.keys, buf[start:]) // stays valid if append reallocates buf later
	}
	w.keyBuf = buf
}
