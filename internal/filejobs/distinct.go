package filejobs

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/records"
)

// distinctEngine is one run of [Distinct]. Records are sorted by the fields, and
// the first of each value is sorted by its place in the input. Before that, each
// worker leaves out what it has seen itself, as far as its memory goes: blocks
// come to it in the order of the input.
type distinctEngine struct {
	by      string
	job     *job
	fields  []records.Field
	seen    []*seenKeys // of each worker
	sorter  *extsort.Sorter
	dropped int64
}

// Distinct returns what leaves out records that are the same in the fields of by,
// "" for all bytes, as one before them.
func Distinct(by string) Engine { return &distinctEngine{by: by} }

func (d *distinctEngine) plan(j *job) (err error) {
	d.job = j
	if d.by != "" {
		d.fields, err = j.fields("by", d.by)
	}
	return err
}

func (d *distinctEngine) run(ctx context.Context, j *job) (err error) {
	memory := j.engineMemory()
	d.seen = j.newSeen(ctx, seenKeys{memory: memory / 4})
	if d.sorter, err = j.newSorter(ctx, memory/2, false); err != nil {
		return err
	}
	inOrder, err := j.newSorter(ctx, memory/4, false)
	if err != nil {
		return err
	}
	if err := j.read(ctx, d.fields, j.sortBy(d.sorter, d.place)); err != nil {
		return err
	}
	j.Bar.Wait("finding the first of each", nil)
	if err := d.sortFirsts(inOrder); err != nil {
		return err
	}
	j.Bar.Wait("writing", nil)
	if err := j.writeSorted(inOrder); err != nil {
		return err
	}
	for _, s := range d.seen {
		d.dropped += s.dropped
	}
	in, out := j.Tally.Records, inOrder.Stats().Records
	if in != out+d.dropped {
		return fmt.Errorf("%d records were read, but %d written and %d left out", in, out, d.dropped)
	}
	j.report("distinct", "distinct", out)
	j.report("dropped", "dropped", d.dropped)
	j.report("proof", "proof", fmt.Sprintf("%s records read are %s written and %s dropped; the sum of the hashes of those written is %v",
		humanize.Comma(in), humanize.Comma(out), humanize.Comma(d.dropped), inOrder.Stats().Sum))
	return nil
}

// place sorts a record that its worker has not seen, with its place in the input.
func (d *distinctEngine) place(b *records.Block, r *sortRecord) (bool, error) {
	r.key = trimNewline(b.Record)
	if len(d.fields) > 0 {
		r.key, r.buf = d.job.keyBy(r.buf, b.Fields, b.Bare)
	}
	known, err := d.seen[b.Worker].add(r.key)
	if known {
		return false, err
	}
	at := len(r.buf)
	r.buf = binary.BigEndian.AppendUint64(r.buf, uint64(b.Offset()))
	r.buf = append(r.buf, b.Record...)
	r.value = r.buf[at:]
	return true, err
}

// sortFirsts sorts the first record of each value by its place in the input.
func (d *distinctEngine) sortFirsts(inOrder *extsort.Sorter) (err error) {
	w, err := inOrder.Writer()
	if err != nil {
		return err
	}
	defer func() { err = joinErrors(err, w.Close()) }()
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
