package cli

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/hashagg"
	"github.com/go-partd/partd/internal/output"
	"github.com/go-partd/partd/internal/records"
)

const mostTop = 1 << 20

// top is one run of partd top. Each worker knows the keys of the first n records
// that it has seen, and leaves out what is not among them; the others are sorted.
type top struct {
	by, frequent *string
	n            *int

	sorting sorting // of --by
	fields  []records.Field
	firsts  []*firstKeys // of each worker
	sorter  *extsort.Sorter
	dropped atomic.Int64

	counts  *hashagg.Aggregator // of --frequent
	tables  []*hashagg.Table
	keys    [][]byte
	written int64
}

func (t *top) plan(j *fileJob) (err error) {
	t.keys = make([][]byte, *j.in.threads)
	if *t.frequent != "" {
		if t.fields, err = resolveBy(*t.frequent, j.layout, j.files.columns); err != nil {
			return fieldError("frequent", *t.frequent, j, err)
		}
		for i := range t.fields {
			t.fields[i].Optional = true
		}
		return nil
	}
	t.sorting.by, t.sorting.down = t.by, true
	return t.sorting.plan(j)
}

func (t *top) run(parent context.Context, j *fileJob) (err error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	memory := j.engineMemory()
	t.sorter, err = extsort.New(ctx, &extsort.Options{Memory: memory / 3, Threads: *j.in.threads, Temp: j.temp})
	if err != nil {
		return err
	}
	defer func() { err = alsoFailed(err, t.sorter.Close()) }()
	for range *j.in.threads {
		t.firsts = append(t.firsts, &firstKeys{n: *t.n, most: memory / 6 / int64(*j.in.threads)})
	}
	if *t.frequent != "" {
		err = t.runFrequent(ctx, cancel, j, memory/2)
	} else {
		err = t.runRecords(ctx, cancel, j)
	}
	if err != nil {
		return err
	}
	j.report.add("written", "written", t.written)
	return nil
}

func (t *top) runRecords(ctx context.Context, cancel context.CancelCauseFunc, j *fileJob) error {
	if err := j.read(ctx, cancel, t.sorting.fields, t.use); err != nil {
		return err
	}
	c, err := newConverter(j, j.sink)
	if err != nil {
		return err
	}
	for b, err := range t.sorter.Sorted() {
		if err != nil {
			return err
		}
		for i := range b.Len() {
			if t.written == int64(*t.n) {
				t.dropped.Add(1)
				continue
			}
			t.written++
			if err := c.write(j.sink, b.Record(i)); err != nil {
				return err
			}
		}
	}
	return t.prove(j, j.tally.Records, "records")
}

// prove compares what was written and left out with what there was.
func (t *top) prove(j *fileJob, all int64, what string) error {
	if all != t.written+t.dropped.Load() {
		return fmt.Errorf("there were %d %s, but %d were written and %d left out", all, what, t.written, t.dropped.Load())
	}
	j.report.add("proof", "proof", fmt.Sprintf("%s %s are %s written and %s left out", commas(all), what, commas(t.written), commas(t.dropped.Load())))
	return nil
}

// use sorts the records of a block that may be among the first.
func (t *top) use(b *records.Block) (err error) {
	w, err := t.sorter.Batch(uint64(b.Seq))
	if err != nil {
		return err
	}
	defer func() { err = alsoFailed(err, w.Close()) }()
	first, key := t.firsts[b.Worker], t.keys[b.Worker]
	defer func() { t.keys[b.Worker] = key }()
	dropped := int64(0)
	for b.Next() {
		t.sorting.look(b)
		var bad int
		if key, bad = t.sorting.appendKey(key[:0], b.Fields); bad >= 0 {
			b.Bad(t.sorting.noNumber(bad, b.Fields))
			continue
		}
		if !first.add(key) {
			dropped++
			continue
		}
		if err := w.Add(key, b.Record); err != nil {
			return tooLong(b, err)
		}
	}
	t.dropped.Add(dropped)
	return nil
}

func (t *top) runFrequent(ctx context.Context, cancel context.CancelCauseFunc, j *fileJob, memory int64) (err error) {
	t.counts, err = hashagg.New(ctx, hashagg.Options{Memory: memory, Threads: *j.in.threads, Temp: j.temp})
	if err != nil {
		return err
	}
	defer func() { err = alsoFailed(err, t.counts.Close()) }()
	for range *j.in.threads {
		table, err := t.counts.Table()
		if err != nil {
			return err
		}
		t.tables = append(t.tables, table)
	}
	err = j.read(ctx, cancel, t.fields, func(b *records.Block) error {
		for b.Next() {
			key, buf := j.keyBy(t.keys[b.Worker][:0], b.Fields, b.Bare)
			t.keys[b.Worker] = buf
			// The sorter has it twice, with its count.
			if most := min(t.tables[b.Worker].MaxKey(), int(j.engineMemory()/3/40/2)-8); len(key) > most {
				longKey(b, len(key), most)
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

// sortCounts sorts the values by how frequent they are.
func (t *top) sortCounts(j *fileJob) (err error) {
	w, err := t.sorter.Writer()
	if err != nil {
		return err
	}
	defer func() { err = alsoFailed(err, w.Close()) }()
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
			t.dropped.Add(1)
			continue
		}
		if err := w.Add(key, key); err != nil {
			return err
		}
	}
	if total != j.tally.Records {
		return fmt.Errorf("%d records were read, but %d counted", j.tally.Records, total)
	}
	return nil
}

// writeCounts writes the most frequent values.
func (t *top) writeCounts(j *fileJob) error {
	var names []string
	for _, f := range t.fields {
		names = append(names, j.nameOf(f))
	}
	rows, err := output.NewRows(j.to, append(names, "count"))
	if err != nil {
		return fmt.Errorf("--to-format %s: %w", j.to.Format, err)
	}
	out, err := rows.AppendHeader(nil)
	if err != nil {
		return err
	}
	for b, err := range t.sorter.Sorted() {
		if err != nil {
			return err
		}
		for i := range b.Len() {
			if t.written == int64(*t.n) {
				t.dropped.Add(1)
				continue
			}
			t.written++
			if out, err = rows.Append(out, t.countRow(j, b.Record(i))); err != nil {
				return err
			}
		}
		if _, err := j.sink.Write(out); err != nil {
			return err
		}
		out = out[:0]
	}
	if _, err := j.sink.Write(out); err != nil {
		return err
	}
	return t.prove(j, t.counts.Stats().Groups, "different values")
}

// countRow returns the row of a value, of which rec is the inverted count and
// the key.
func (t *top) countRow(j *fileJob, rec []byte) []output.Value {
	var count uint64
	for _, c := range rec[:8] {
		count = count<<8 | uint64(^c)
	}
	row := j.valuesOf(nil, rec[8:], len(t.fields))
	return append(row, output.Value{Text: strconv.AppendUint(nil, count, 10), JSON: true})
}
