package filejobs

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/dustin/go-humanize"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/engine/hashagg"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/jobs/records"
)

// MaxTop is the maximum number of top records.
const MaxTop = 1 << 20

// topEngine runs [Top] or [Frequent]. Each worker remembers the n first keys in sort order, and
// drops records with later keys. The remaining records are sorted.
type topEngine struct {
	n       int
	sorting sortEngine   // only for Top
	firsts  []*firstKeys // one for each worker
	sorter  *extsort.Sorter
	written int64
	dropped int64

	frequent string // the value of by for Frequent, "" for Top
	fields   []records.Field
	counts   *hashagg.Aggregator
	tables   []*hashagg.Table
	keys     [][]byte
}

// Top returns an engine that writes the n records with the largest values of the fields listed in
// by.
func Top(by string, n int) Engine {
	return &topEngine{n: n, sorting: sortEngine{by: by, descending: true}}
}

// Frequent returns an engine that writes the n most frequent values of the fields listed in by.
func Frequent(by string, n int) Engine { return &topEngine{n: n, frequent: by} }

func (t *topEngine) plan(j *job) (err error) {
	if t.frequent == "" {
		return t.sorting.plan(j)
	}
	t.keys = make([][]byte, j.Threads)
	t.fields, err = j.resolveFields("frequent", t.frequent)
	return err
}

func (t *topEngine) run(ctx context.Context, j *job) (err error) {
	memory := j.engineMemory()
	if t.sorter, err = j.newSorter(ctx, memory/3, false); err != nil {
		return err
	}
	for range j.Threads {
		t.firsts = append(t.firsts, &firstKeys{n: t.n, maxBytes: memory / 6 / int64(j.Threads)})
	}
	if t.frequent != "" {
		err = t.runFrequent(ctx, j, memory/2)
	} else {
		err = t.runRecords(ctx, j)
	}
	if err != nil {
		return err
	}
	j.report("written", "written", t.written)
	return nil
}

func (t *topEngine) runRecords(ctx context.Context, j *job) error {
	if err := j.read(ctx, t.sorting.fields, j.sortBy(t.sorter, t.setSortKey)); err != nil {
		return err
	}
	j.Notes = t.sorting.notes()
	c, err := newConverter(j, j.sink)
	if err != nil {
		return err
	}
	return t.writeFirst(j, j.Tally.Records, "records", func(rec []byte) error { return c.write(j.sink, rec) })
}

// writeFirst calls write with the first n sorted records, and drops the others. It checks that the
// written and the dropped records add up to total.
func (t *topEngine) writeFirst(j *job, total int64, subject string, write func(rec []byte) error) error {
	for b, err := range t.sorter.Sorted() {
		if err != nil {
			return err
		}
		for i := range b.Len() {
			if t.written == int64(t.n) {
				t.dropped++
				continue
			}
			t.written++
			if err := write(b.Record(i)); err != nil {
				return err
			}
		}
	}
	for _, f := range t.firsts {
		t.dropped += f.dropped
	}
	return t.verify(j, total, subject)
}

func (t *topEngine) verify(j *job, total int64, subject string) error {
	if total != t.written+t.dropped {
		return fmt.Errorf("%d %s were read, but %d were written and %d dropped", total, subject, t.written, t.dropped)
	}
	name := "proof"
	if subject == "groups" { // the proof of the records has the name "proof"
		name = "proof_of_groups"
	}
	j.report(name, "proof", fmt.Sprintf("%s %s = %s written + %s dropped", humanize.Comma(total), subject, humanize.Comma(t.written), humanize.Comma(t.dropped)))
	return nil
}

// setSortKey sets a record's sort key. It returns false, which drops the record, if the worker has
// seen n keys that sort before it.
func (t *topEngine) setSortKey(b *records.Block, r *sortRecord) (bool, error) {
	include, err := t.sorting.setSortKey(b, r)
	return include && t.firsts[b.Worker].add(r.key), err
}

func (t *topEngine) runFrequent(ctx context.Context, j *job, memory int64) (err error) {
	if t.counts, err = j.newAggregator(ctx, hashagg.Options{Memory: memory, Threads: j.Threads}); err != nil {
		return err
	}
	for range j.Threads {
		table, err := t.counts.Table()
		if err != nil {
			return err
		}
		t.tables = append(t.tables, table)
	}
	err = j.read(ctx, t.fields, func(b *records.Block) error {
		for b.Next() {
			key, buf := j.keyBy(t.keys[b.Worker][:0], b.Fields, b.Unquoted)
			t.keys[b.Worker] = buf
			// sortCounts passes the key to the sorter twice, in the sort key and in the record,
			// each time with its count.
			if limit := min(t.tables[b.Worker].MaxKey(), extsort.MaxRecord(j.engineMemory()/3)/2-8); len(key) > limit {
				reportLongKey(b, len(key), limit)
				continue
			}
			if _, _, err := t.tables[b.Worker].Get(key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, table := range t.tables {
		if err := table.Close(); err != nil {
			return err
		}
	}
	if err := t.sortCounts(j); err != nil {
		return err
	}
	return t.writeCounts(j)
}

func (t *topEngine) sortCounts(j *job) (err error) {
	w, err := t.sorter.Writer()
	if err != nil {
		return err
	}
	defer func() { err = joinErrors(err, w.Close()) }()
	var key []byte
	total := int64(0)
	for group, err := range t.counts.Groups() {
		if err != nil {
			return err
		}
		total += int64(group.Records)
		key = extsort.AppendUint(key[:0], ^group.Records)
		key = append(key, group.Key...)
		if !t.firsts[0].add(key) {
			continue
		}
		if err := w.Add(key, key); err != nil {
			return err
		}
	}
	if total != j.Tally.Records {
		return fmt.Errorf("%d records were read, but %d were counted", j.Tally.Records, total)
	}
	return nil
}

func (t *topEngine) writeCounts(j *job) error {
	var names []string
	for _, f := range t.fields {
		names = append(names, j.fieldName(f))
	}
	rows, err := output.NewRows(j.To, append(names, "count"))
	if err != nil {
		return fmt.Errorf("--to-format %s: %w", j.To.Format, err)
	}
	out, err := rows.AppendHeader(nil)
	if err != nil {
		return err
	}
	if _, err := j.sink.Write(out); err != nil {
		return err
	}
	return t.writeFirst(j, t.counts.Stats().Groups, "different values", func(rec []byte) error {
		count := ^binary.BigEndian.Uint64(rec)
		row := j.appendKeyValues(nil, rec[8:], len(t.fields))
		row = append(row, output.Value{Text: strconv.AppendUint(nil, count, 10), JSON: true})
		if out, err = rows.Append(out[:0], row); err == nil {
			_, err = j.sink.Write(out)
		}
		return err
	})
}
