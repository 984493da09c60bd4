package group

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/engine/hashagg"
	"github.com/go-partd/partd/internal/jobs/filejobs"
)

// flush sends each group in the hash table to the sorter with the numbers in its lists. Then it empties the table and the lists.
func (w *worker) flush() error {
	err := w.table.Drain(func(group hashagg.Group) error { return w.sendGroup(group.Key, group.Records, group.State) })
	w.lists.reset()
	return err
}

// sendRecords passes each record in the batch to the sorter as a group of one record.
func (w *worker) sendRecords() error {
	used := w.lists.used
	for i, key := range w.keys {
		clear(w.single[0])
		w.add(i, w.single[:])
		if w.err != nil {
			return w.err
		}
		if err := w.sendGroup(key, 1, w.single[0]); err != nil {
			return err
		}
		w.lists.used = used // sendGroup has sent the record's lists, so their memory can be used again
	}
	return nil
}

func (w *worker) sendGroup(key []byte, records uint64, state []uint64) error {
	g := w.engine
	rec := binary.AppendUvarint(append(w.recordBuf[:0], aggregatedPart), records)
	for _, word := range state[:g.program.Words] {
		rec = binary.AppendUvarint(rec, word) // as a uvarint, because most words are small
	}
	if g.sortsParts() {
		rec = append(rec, key...)
	}
	w.recordBuf = rec
	if err := w.writer.Add(g.sortKey(w.sortKeyBuf, key, aggregatedPart), rec); err != nil {
		return err
	}
	for i, ref := range state[g.program.Words:] {
		if err := w.sendNumbers(i, w.lists.get(ref), key); err != nil {
			return err
		}
	}
	return nil
}

// finish passes the remaining data to the sorter. index is the worker's index.
func (w *worker) finish(index int) (err error) {
	if w.engine.sortsValues() {
		w.writer, err = w.engine.lastWriter(index)
		if err != nil {
			return err
		}
	}
	err = filejobs.JoinErrors(w.flush(), w.writer.Close())
	err = filejobs.JoinErrors(err, w.table.Close())
	return filejobs.JoinErrors(err, w.lists.close())
}

// lastWriter returns a writer for data that must sort after the data of all blocks. If values are sorted, that order is
// the order of batch numbers, and the writer gets the number g.batches plus offset.
func (g *engine) lastWriter(offset int) (*extsort.Writer, error) {
	if g.sortsValues() {
		return g.sorter.Batch(uint64(g.batches.Load()) + uint64(offset))
	}
	return g.sorter.Writer()
}

func (g *engine) gatherDistinct(ctx context.Context) (err error) {
	out, err := g.lastWriter(len(g.workers))
	if err != nil {
		return err
	}
	defer func() { err = filejobs.JoinErrors(err, out.Close()) }()
	perGroup, err := g.job.NewAggregator(ctx, hashagg.Options{
		// g.numbers is closed, so its three shares are free.
		Memory: 3 * g.shareSize, Threads: 1, Words: len(g.pairs),
		Merge: func(dst, src []uint64) {
			for i, n := range src {
				dst[i] += n
			}
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = filejobs.JoinErrors(err, perGroup.Close()) }()
	table, err := perGroup.Table()
	if err != nil {
		return err
	}
	for i, pairs := range g.pairs {
		for pair, err := range pairs.Groups() {
			if err != nil {
				return err
			}
			n, l := binary.Uvarint(pair.Key)
			state, _, err := table.Get(pair.Key[l : l+int(n)])
			if err != nil {
				return err
			}
			state[i]++
		}
		if err := pairs.Close(); err != nil {
			return err
		}
	}
	if err := table.Close(); err != nil {
		return err
	}
	var rec, key []byte
	for group, err := range perGroup.Groups() {
		if err != nil {
			return err
		}
		rec = append(rec[:0], distinctPart)
		for _, n := range group.State {
			rec = binary.AppendUvarint(rec, n)
		}
		key = g.sortKey(key, group.Key, distinctPart)
		if err := out.Add(key, rec); err != nil {
			return err
		}
	}
	return nil
}

func (g *engine) verify(out hashagg.Totals) error {
	in := g.numbers.Stats()
	read := g.job.Tally.Records
	switch {
	case in.Records != read:
		return fmt.Errorf("%d records were read, but %d were aggregated", read, in.Records)
	case out.Records != read:
		return fmt.Errorf("%d records were read, but the written rows aggregate %d", read, out.Records)
	case out.KeySum != in.KeySum:
		return fmt.Errorf("the hashes of the keys of %d records add up to %016x, but those of the written rows add up to %016x", read, in.KeySum, out.KeySum)
	}
	return nil
}
