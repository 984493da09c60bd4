package filejobs

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/hashagg"
)

// gather puts the results into the sorter.
func (g *groupEngine) gather(ctx context.Context, j *job) (err error) {
	var w *extsort.Writer
	if len(g.kept) > 0 {
		w, err = g.sorter.Batch(uint64(g.batches.Load()))
	} else {
		w, err = g.sorter.Writer()
	}
	if err != nil {
		return err
	}
	defer func() { err = joinErrors(err, w.Close()) }()
	var rec []byte
	var total uint64
	for group, err := range g.numbers.Groups() {
		if err != nil {
			return err
		}
		total += group.Records
		rec = append(rec[:0], aggregated)
		rec = binary.AppendUvarint(rec, uint64(len(group.Key)))
		rec = append(rec, group.Key...)
		rec = binary.AppendUvarint(rec, group.Records)
		for _, word := range group.State {
			rec = binary.LittleEndian.AppendUint64(rec, word)
		}
		if err := w.Add(group.Key, rec); err != nil {
			return err
		}
	}
	if total != uint64(j.Tally.Records) {
		return fmt.Errorf("%d records were read, but the groups stand for %d", j.Tally.Records, total)
	}
	if err := g.numbers.Close(); err != nil {
		return err
	}
	if len(g.distinct) == 0 {
		return nil
	}
	return g.gatherDistinct(ctx, j, w)
}

// gatherDistinct counts, for each group, the pairs that it is in.
func (g *groupEngine) gatherDistinct(ctx context.Context, j *job, w *extsort.Writer) (err error) {
	counts, err := j.newTables(ctx, hashagg.Options{
		Memory: max(j.engineMemory()/8, hashagg.MinMemory), Threads: 1, Words: len(g.pairs),
		Merge: func(dst, src []uint64) {
			for i, n := range src {
				dst[i] += n
			}
		},
	})
	if err != nil {
		return err
	}
	table, err := counts.Table()
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
	var rec []byte
	for group, err := range counts.Groups() {
		if err != nil {
			return err
		}
		rec = append(rec[:0], countDistinct)
		for _, n := range group.State {
			rec = binary.AppendUvarint(rec, n)
		}
		if err := w.Add(group.Key, rec); err != nil {
			return err
		}
	}
	return nil
}

// write writes the rows.
func (g *groupEngine) write(j *job, counts []string) (err error) {
	r, err := newGroupRow(g, j)
	if err != nil {
		return err
	}
	defer func() { err = joinErrors(err, r.close()) }()
	var groups, records int64
	end := func() error { // of a group
		if !r.begun {
			return nil
		}
		groups++
		records += int64(r.records)
		return r.write(j.sink)
	}
	for b, err := range g.sorter.Sorted() {
		if err != nil {
			return err
		}
		for i := range b.Len() {
			if !b.SameKey(i) {
				if err := end(); err != nil {
					return err
				}
			}
			if err := r.add(b.Record(i)); err != nil {
				return err
			}
		}
	}
	if err := end(); err != nil {
		return err
	}
	if records != j.Tally.Records {
		return fmt.Errorf("%d records were read, but the rows written stand for %d", j.Tally.Records, records)
	}
	var perWorker []int64
	for _, w := range g.workers {
		perWorker = append(perWorker, w.records)
	}
	j.report("groups", "groups", groups)
	j.report("records_by_worker", "", perWorker)
	j.report("proof", "proof", fmt.Sprintf("the counts of the groups add up to the records: %s (%s)", humanize.Comma(records), strings.Join(counts, " + ")))
	j.report("spills", "", g.sorter.Stats().Runs)
	return nil
}
