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

// groupBatch is how many records are aggregated together, so that the processor
// waits for the states of several at once.
const groupBatch = 256

// groupWorker is what one goroutine aggregates with.
type groupWorker struct {
	g       *groupEngine
	table   *hashagg.Table
	pairs   []*hashagg.Table
	records int64

	// Of a batch of records:
	keys    [][]byte
	values  [][]byte           // those of one record after those of the other
	numbers []aggregate.Number // so, too
	joined  []byte             // keys of several fields

	to     *extsort.Writer // what leaves the table goes there: of values, the batch of the block at hand
	lists  numberLists
	state  []uint64 // of a group of one record
	pair   []byte
	sorted []byte
	key    []byte // that is sorted by
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
	w.table.LetPass()
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
	return w.aggregate() // before the block goes
}

// aggregate adds the records of the batch to the states of their groups.
func (w *groupWorker) aggregate() error {
	n := w.g.values
	var err error
	if w.table.Passes(w.keys) {
		err = w.pass()
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
	return fmt.Errorf("%s is not what an aggregate needs", quoteShort(value))
}

// What is sorted under the key of a group begins with what it is. Where there are
// modes, this is the order, too.
const (
	aggregated    = iota // how many records, words, and the key where parts have an order
	countDistinct        // for each column, how many values
	keptValues           // of a record
	countedValue         // number of the mode, whether it is bare, value
	someNumbers          // number of the column, 64-bit floats
	wideNumber           // number of the column, an integer that no such float holds
)

// keptOf returns the values of a record that are kept: twice the length of each,
// plus one, plus another for one that is bare, or 0 for one that is missing, and
// the value.
func (w *groupWorker) keptOf(values [][]byte, bare []bool) []byte {
	rec := append(w.sorted[:0], keptValues)
	for _, col := range w.g.kept {
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
