package filejobs

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-partd/partd/internal/aggregate"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/hashagg"
	"github.com/go-partd/partd/internal/records"
)

// groupBatch is the number of records that are aggregated together, so that the processor
// fetches several states at the same time.
const groupBatch = 256

// groupWorker holds the state of one goroutine that aggregates.
type groupWorker struct {
	g       *groupEngine
	table   *hashagg.Table
	pairs   []*hashagg.Table
	records int64

	// A batch of records:
	keys    [][]byte
	values  [][]byte           // the values of all records, record by record
	numbers []aggregate.Number // likewise
	joined  []byte             // the memory of keys of several fields

	to     *extsort.Writer // receives data from the table; if values are sorted, the batch of the current block
	lists  numberLists
	state  []uint64 // the state of a group of one record
	pair   []byte
	sorted []byte
	key    []byte // a sort key
	err    error
}

func newGroupWorker(g *groupEngine) (w *groupWorker, err error) {
	w = &groupWorker{
		g: g, keys: make([][]byte, 0, groupBatch),
		values: make([][]byte, groupBatch*g.values), numbers: make([]aggregate.Number, groupBatch*g.values),
		pairs: make([]*hashagg.Table, len(g.pairs)), state: make([]uint64, g.program.Words+len(g.quantiled)),
	}
	for i, a := range g.pairs {
		if w.pairs[i], err = a.Table(); err != nil {
			return nil, err
		}
	}
	if w.table, err = g.numbers.Table(); err != nil {
		return nil, err
	}
	w.table.DrainTo(w.flush)
	w.table.AllowBypass()
	if len(g.quantiled) > 0 {
		memory := max(g.share/int64(g.job.Threads), extsort.MinMemory/16)
		if w.lists.mem, w.lists.numbers, err = allocateNumbers(memory); err != nil {
			return nil, err
		}
		g.job.closers = append(g.job.closers, w.lists.close)
	}
	if !g.sortsValues() {
		w.to, err = g.sorter.Writer()
	}
	return w, err
}

func (w *groupWorker) close() error {
	var errs []error
	for _, t := range w.pairs {
		errs = append(errs, t.Close())
	}
	return errors.Join(errs...)
}

func (g *groupEngine) use(b *records.Block) (err error) {
	w := g.workers[b.Worker]
	sorts := g.sortsValues()
	if sorts {
		for n := g.batches.Load(); n <= b.Seq && !g.batches.CompareAndSwap(n, b.Seq+1); {
			n = g.batches.Load()
		}
		if w.to, err = g.sorter.Batch(uint64(b.Seq)); err != nil {
			return err
		}
		defer func() { err = joinErrors(err, w.to.Close()) }()
	}
	limit := min(w.table.MaxKey(), g.longest)
	for b.Next() {
		i := len(w.keys) * g.values
		values, numbers := w.values[i:i+g.values], w.numbers[i:i+g.values]
		copy(values, b.Fields[g.keys:])
		if bad := g.program.Numbers(values, numbers); bad >= 0 {
			b.Bad(g.wrongValue(values[bad], bad))
			continue
		}
		var key []byte
		key, w.joined = g.job.keyBy(w.joined, b.Fields[:g.keys], b.Bare)
		if len(key) > limit {
			longKey(b, len(key), limit)
			continue
		}
		for k, col := range g.distinct {
			n := len(key) + len(values[col])
			if limit := w.pairs[k].MaxKey() - binary.MaxVarintLen32; n > limit {
				longKey(b, n, limit)
			}
		}
		w.keys = append(w.keys, key)
		if sorts {
			if err := w.sort(key, values, b.Bare[g.keys:]); err != nil {
				return tooLong(b, err)
			}
		}
		if len(w.keys) == groupBatch {
			if err := w.aggregate(); err != nil {
				return err
			}
		}
	}
	n, _ := b.Tally()
	w.records += n
	return w.aggregate() // before the block is reused
}

// aggregate adds the records of the batch to the states of their groups.
func (w *groupWorker) aggregate() error {
	n := w.g.values
	var err error
	if w.table.Bypass(w.keys) {
		err = w.sendEach()
	} else {
		err = w.table.GetMany(w.keys, func(i int, state []uint64, _ bool) { w.add(i, state) })
	}
	if err = cmp.Or(err, w.err); err == nil && w.lists.crowded {
		err = w.flush()
	}
	for k, col := range w.g.distinct {
		for i, key := range w.keys {
			value := w.values[i*n+col]
			if err != nil || len(value) == 0 {
				continue
			}
			w.pair = append(binary.AppendUvarint(w.pair[:0], uint64(len(key))), key...)
			w.pair = append(w.pair, value...)
			_, _, err = w.pairs[k].Get(w.pair)
		}
	}
	w.keys, w.joined = w.keys[:0], w.joined[:0]
	return err
}

func (w *groupWorker) add(i int, state []uint64) {
	g := w.g
	values, numbers := w.values[i*g.values:(i+1)*g.values], w.numbers[i*g.values:(i+1)*g.values]
	g.program.Add(state, values, numbers)
	for k, col := range g.quantiled {
		if len(values[col]) > 0 && w.err == nil {
			w.err = w.addNumber(k, &state[g.program.Words+k], w.keys[i], numbers[col])
		}
	}
}

func (g *groupEngine) wrongValue(value []byte, col int) error {
	_, isNumber := aggregate.ParseNumber(value)
	_, isBool := aggregate.ParseBool(value)
	for i, s := range g.specs {
		switch p := g.places[i]; {
		case p.First != col && p.Second != col:
		case s.Numeric() && !isNumber:
			return fmt.Errorf("%s needs a number, not %s", s.Text, quoteShort(value))
		case s.Boolean() && !isBool:
			return fmt.Errorf("%s needs true or false, not %s", s.Text, quoteShort(value))
		}
	}
	return fmt.Errorf("%s is not a valid value for an aggregate", quoteShort(value))
}

// A part sorted under the key of a group begins with its kind. If there are modes, the
// parts are sorted by kind.
const (
	aggregated    = iota // number of records, words, and the key if parts are sorted
	countDistinct        // for each column, the number of values
	keptValues           // the kept values of a record
	countedValue         // number of the mode, whether the value is bare, the value
	someNumbers          // number of the column, 64-bit floats
	wideNumber           // number of the column, an integer that no float represents
)

// keptOf encodes the kept values of a record. For each value it writes twice the length,
// plus one, plus another one if the value is bare, and then the value; or 0 if the value is
// missing.
func (w *groupWorker) keptOf(values [][]byte, bare []bool) []byte {
	rec := append(w.sorted[:0], keptValues)
	for _, col := range w.g.storedColumns {
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
	w.sorted = rec
	return rec
}
