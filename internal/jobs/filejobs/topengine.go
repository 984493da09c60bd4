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

// MaxTop is the maximum number of top records, and of keys that a FirstSorter remembers.
const MaxTop = 1 << 20

// FirstSorter selects the n records whose keys come first in sort order. Each worker remembers
// the n smallest keys that it has seen and drops records with larger keys. The remaining records are sorted.
// Unlike shuffle's TopK, it holds only keys: records go to the sorter block by block, so that records with
// equal keys keep their order and an error names the line.
type FirstSorter struct {
	n          int
	workerKeys []*firstKeys // one for each worker
	sorter     *extsort.Sorter
	written    int64
	dropped    int64
}

// Open prepares t to select n records for a single worker. It returns the writer for the records.
func (t *FirstSorter) Open(ctx context.Context, j *Job, n int, memory int64) (_ *extsort.Writer, err error) {
	t.n, t.workerKeys = n, []*firstKeys{{n: n, maxBytes: memory / 2, disabled: n > MaxTop}}
	t.sorter, err = j.NewSorter(ctx, memory/2, false)
	if err != nil {
		return nil, err
	}
	return t.sorter.Writer()
}

// Includes reports whether the record with a key may be among the first n. It remembers the key.
func (t *FirstSorter) Includes(key []byte) bool { return t.workerKeys[0].add(key) }

// topEngine runs [Top] or [Frequent].
type topEngine struct {
	FirstSorter
	sorting sortEngine // only for Top

	frequentBy string // the argument of Frequent; "" for Top
	fields     []records.Field
	names      []string // names of the fields in the output
	counts     *hashagg.Aggregator
	tables     []*hashagg.Table
	keyBufs    [][]byte // one for each worker
}

// Top returns an engine that writes the n records with the largest values of the fields listed in by.
func Top(by string, n int) Engine {
	return &topEngine{FirstSorter: FirstSorter{n: n}, sorting: sortEngine{by: by, descending: true}}
}

// Frequent returns an engine that writes the n most frequent values of the fields listed in by.
func Frequent(by string, n int) Engine {
	return &topEngine{FirstSorter: FirstSorter{n: n}, frequentBy: by}
}

// Selects implements [Selecter]. For [Frequent], --columns applies to the rows of counts.
func (t *topEngine) Selects(o *Options) (where, columns string) {
	if t.frequentBy != "" {
		return o.Where, ""
	}
	return o.Where, o.Columns
}

func (t *topEngine) Plan(j *Job) (err error) {
	if t.frequentBy == "" {
		return t.sorting.Plan(j)
	}
	t.keyBufs = make([][]byte, j.Threads)
	t.fields, t.names, err = j.ResolveColumns("frequent", t.frequentBy)
	return err
}

func (t *topEngine) Run(ctx context.Context, j *Job) (err error) {
	memory := j.engineMemory()
	t.sorter, err = j.NewSorter(ctx, memory/3, false)
	if err != nil {
		return err
	}
	for range j.Threads {
		t.workerKeys = append(t.workerKeys, &firstKeys{n: t.n, maxBytes: memory / 6 / int64(j.Threads)})
	}
	if t.frequentBy != "" {
		return t.runFrequent(ctx, j, memory/2)
	}
	return t.runRecords(ctx, j)
}

func (t *topEngine) runRecords(ctx context.Context, j *Job) error {
	if err := j.Read(ctx, t.sorting.fields, j.sortBy(t.sorter, t.setSortKey)); err != nil {
		return err
	}
	j.Notes = t.sorting.notes()
	c, err := newConverter(j, j.sink)
	if err != nil {
		return err
	}
	return t.WriteFirst(j, j.Tally.Records, "records", func(rec []byte) error { return c.write(j.sink, rec) })
}

// WriteFirst calls write with the first n sorted records and drops the others. It checks that the
// written and the dropped records add up to total and reports these numbers.
func (t *FirstSorter) WriteFirst(j *Job, total int64, subject string, write func(rec []byte) error) error {
	for b, err := range t.sorter.First(int64(t.n)) {
		if err != nil {
			return err
		}
		for i := range b.Len() {
			t.written++
			if err := write(b.Record(i)); err != nil {
				return err
			}
		}
	}
	t.dropped = t.sorter.Stats().Records - t.written
	for _, f := range t.workerKeys {
		t.dropped += f.dropped
	}
	if err := t.verify(j, total, subject); err != nil {
		return err
	}
	j.Report("written", "written", t.written)
	return nil
}

func (t *FirstSorter) verify(j *Job, total int64, subject string) error {
	if total != t.written+t.dropped {
		return fmt.Errorf("%d %s were read, but %d were written and %d dropped", total, subject, t.written, t.dropped)
	}
	name := "proof"
	if subject == "groups" { // the proof of the records has the name "proof"
		name = "proof_of_groups"
	}
	j.Report(name, "proof", fmt.Sprintf("%s %s = %s written + %s dropped", humanize.Comma(total), subject, humanize.Comma(t.written), humanize.Comma(t.dropped)))
	return nil
}

// setSortKey sets a record's sort key. It returns false, which drops the record, if the worker has
// seen n keys that sort before it.
func (t *topEngine) setSortKey(b *records.Block, r *sortRecord) (bool, error) {
	include, err := t.sorting.setSortKey(b, r)
	return include && t.workerKeys[b.Worker].add(r.key), err
}

func (t *topEngine) runFrequent(ctx context.Context, j *Job, memory int64) (err error) {
	t.counts, err = j.NewAggregator(ctx, hashagg.Options{Memory: memory, Threads: j.Threads})
	if err != nil {
		return err
	}
	for range j.Threads {
		table, err := t.counts.Table()
		if err != nil {
			return err
		}
		t.tables = append(t.tables, table)
	}
	err = j.Read(ctx, t.fields, func(b *records.Block) error {
		for b.Next() {
			key, buf := j.KeyBy(t.keyBufs[b.Worker][:0], b.Fields, b.Unquoted)
			t.keyBufs[b.Worker] = buf
			// sortCounts passes the key to the sorter twice, in the sort key and in the record,
			// each time with its count.
			if limit := min(t.tables[b.Worker].MaxKey(), extsort.MaxRecord(j.engineMemory()/3)/2-8); len(key) > limit {
				ReportLongKey(b, len(key), limit)
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

func (t *topEngine) sortCounts(j *Job) (err error) {
	w, err := t.sorter.Writer()
	if err != nil {
		return err
	}
	defer func() { err = JoinErrors(err, w.Close()) }()
	var key []byte
	total := int64(0)
	for group, err := range t.counts.Groups() {
		if err != nil {
			return err
		}
		total += int64(group.Records)
		key = extsort.AppendUint(key[:0], ^group.Records)
		key = append(key, group.Key...)
		if !t.workerKeys[0].add(key) {
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

func (t *topEngine) writeCounts(j *Job) error {
	order, names, err := j.OrderColumns(append(t.names, "count"))
	if err != nil {
		return err
	}
	rows, err := output.NewRows(j.To, names)
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
	return t.WriteFirst(j, t.counts.Stats().Groups, "different values", func(rec []byte) error {
		count := ^binary.BigEndian.Uint64(rec)
		row := j.AppendKeyValues(nil, rec[8:], len(t.fields))
		row = append(row, output.Value{Text: strconv.AppendUint(nil, count, 10), JSON: true})
		out, err = rows.Append(out[:0], output.Reorder(row, order))
		if err == nil {
			_, err = j.sink.Write(out)
		}
		return err
	})
}
