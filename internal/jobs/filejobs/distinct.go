package filejobs

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/jobs/records"
)

// distinctEngine runs [Distinct]. It sorts the records by the fields, and then the first
// record with each value by its position in the input. Before the sort, each worker drops records
// whose values it has seen. Such records cannot be the first with their values, because a worker
// receives its blocks in input order.
type distinctEngine struct {
	by      string
	job     *Job
	fields  []records.Field
	respell bool        // compare JSON records by their values, not by their spelling
	seen    []*seenKeys // one for each worker
	sorter  *extsort.Sorter
	dropped int64
}

// Distinct returns an engine that drops every record that has the same values as an earlier record
// in the fields listed in by. If by is "", it compares whole records: by value if both formats are JSON lines and
// --columns is set, otherwise as text.
func Distinct(by string) Engine { return &distinctEngine{by: by} }

func (d *distinctEngine) Plan(j *Job) (err error) {
	d.job = j
	d.respell = d.by == "" && j.selection.Replaces() && j.From.Format == records.JSONL && j.To.Format == records.JSONL
	if d.by != "" {
		d.fields, err = j.ResolveFields("by", d.by)
	}
	return err
}

func (d *distinctEngine) Run(ctx context.Context, j *Job) (err error) {
	memory := j.engineMemory()
	d.seen, err = j.newSeenKeys(ctx, memory/4, 0)
	if err != nil {
		return err
	}
	d.sorter, err = j.NewSorter(ctx, memory/2, false)
	if err != nil {
		return err
	}
	inOrder, err := j.NewSorter(ctx, memory/4, false)
	if err != nil {
		return err
	}
	if err := j.Read(ctx, d.fields, j.sortBy(d.sorter, d.setSortKey)); err != nil {
		return err
	}
	j.Bar.Wait("finding the first record of each value", nil)
	if err := d.sortFirsts(inOrder); err != nil {
		return err
	}
	j.Bar.Wait("writing", nil)
	if err := j.writeSorted(inOrder); err != nil {
		return err
	}
	for _, s := range d.seen {
		d.dropped += s.droppedRecords
	}
	in, out := j.Tally.Records, inOrder.Stats().Records
	if in != out+d.dropped {
		return fmt.Errorf("%d records were read, but %d written and %d dropped", in, out, d.dropped)
	}
	j.Report("distinct", "distinct", out)
	j.Report("dropped", "dropped", d.dropped)
	j.Report("proof", "proof", fmt.Sprintf("%s records read = %s written + %s dropped; the hashes of the written records add up to %v",
		humanize.Comma(in), humanize.Comma(out), humanize.Comma(d.dropped), inOrder.Stats().Sum))
	return nil
}

// setSortKey uses the values of the fields as the sort key. The sorted data is the record's position
// in the input followed by the record. setSortKey returns false, which drops the record, if the worker
// has already seen the values.
func (d *distinctEngine) setSortKey(b *records.Block, r *sortRecord) (bool, error) {
	r.key = trimNewline(b.Record)
	switch {
	case len(d.fields) > 0:
		r.key, r.buf = d.job.KeyBy(r.buf, b.Fields, b.Unquoted)
	case d.respell:
		r.buf = records.AppendSpelled(r.buf[:0], r.key)
		r.key = r.buf
	}
	seen, err := d.seen[b.Worker].add(r.key)
	if seen {
		return false, err
	}
	start := len(r.buf)
	r.buf = binary.BigEndian.AppendUint64(r.buf, uint64(b.Offset()))
	r.buf = append(r.buf, b.Record...)
	r.value = r.buf[start:]
	return true, err
}

func (d *distinctEngine) sortFirsts(inOrder *extsort.Sorter) (err error) {
	w, err := inOrder.Writer()
	if err != nil {
		return err
	}
	defer func() { err = JoinErrors(err, w.Close()) }()
	for b, err := range d.sorter.Sorted() {
		if err != nil {
			return err
		}
		for i := range b.Len() {
			if b.SameKey(i) {
				d.dropped++
				continue
			}
			rec := b.Record(i)
			if err := w.Add(rec[:8], rec[8:]); err != nil {
				return err
			}
		}
	}
	return nil
}
