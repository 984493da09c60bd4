package filejobs

import (
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

	pair []byte
	kept []byte
}

func newGroupWorker(g *groupEngine) (w *groupWorker, err error) {
	w = &groupWorker{
		g: g, keys: make([][]byte, 0, groupBatch),
		values: make([][]byte, groupBatch*g.values), numbers: make([]aggregate.Number, groupBatch*g.values),
		pairs: make([]*hashagg.Table, len(g.pairs)),
	}
	for i, a := range g.pairs {
		if w.pairs[i], err = a.Table(); err != nil {
			return nil, err
		}
	}
	w.table, err = g.numbers.Table()
	return w, err
}

func (w *groupWorker) close() error {
	errs := []error{w.table.Close()}
	for _, t := range w.pairs {
		errs = append(errs, t.Close())
	}
	return errors.Join(errs...)
}

// use aggregates a block.
func (g *groupEngine) use(b *records.Block) (err error) {
	w := g.workers[b.Worker]
	var keep *extsort.Writer
	if len(g.kept) > 0 {
		for n := g.batches.Load(); n <= b.Seq && !g.batches.CompareAndSwap(n, b.Seq+1); {
			n = g.batches.Load()
		}
		if keep, err = g.sorter.Batch(uint64(b.Seq)); err != nil {
			return err
		}
		defer func() { err = joinErrors(err, keep.Close()) }()
	}
	for b.Next() {
		i := len(w.keys) * g.values
		values, numbers := w.values[i:i+g.values], w.numbers[i:i+g.values]
		copy(values, b.Fields[g.keys:])
		if bad := g.program.Numbers(values, numbers); bad >= 0 {
			b.Bad(g.noNumber(values[bad], bad))
			continue
		}
		var key []byte
		key, w.joined = g.job.keyBy(w.joined, b.Fields[:g.keys], b.Bare)
		if limit := min(w.table.MaxKey(), g.longest); len(key) > limit {
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
		if keep != nil {
			if err := keep.Add(key, w.keptOf(values, b.Bare[g.keys:])); err != nil {
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
	err := w.table.GetMany(w.keys, func(i int, state []uint64, _ bool) {
		w.g.program.Add(state, w.values[i*n:(i+1)*n], w.numbers[i*n:(i+1)*n])
	})
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

func (g *groupEngine) noNumber(value []byte, col int) error {
	for i, s := range g.specs {
		if g.places[i] == col && s.Numeric() {
			return fmt.Errorf("%s needs a number, not %s", s.Text, quoteShort(value))
		}
	}
	return fmt.Errorf("%s is not a number", quoteShort(value))
}

// What is sorted under the key of a group begins with what it is.
const (
	keptValues    = iota // of a record
	aggregated           // the key, how many records, words
	countDistinct        // for each column, how many values
)

// keptOf returns the values of a record that are kept: twice the length of each,
// plus one, plus another for one that is bare, or 0 for one that is missing, and
// the value.
func (w *groupWorker) keptOf(values [][]byte, bare []bool) []byte {
	rec := append(w.kept[:0], keptValues)
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
	w.kept = rec
	return rec
}
