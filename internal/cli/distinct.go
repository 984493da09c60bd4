package cli

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/records"
)

const distinctHelp = `Read files, and write the first record of each value of the fields of --by, or,
without --by, of records that are the same byte for byte. The records written stay
in the order of the input, and the header in front. Any number of them will do:
what does not fit the memory goes to temporary files.

Fields are compared as bytes, and from jsonl to jsonl by their type, too. A
missing value (an empty field; null or no member in jsonl) is a value like others.

At the end the records written and those left out are compared with those read.`

func newDistinct(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "distinct [--by F[,F…]] [flags] [--] FILE…",
		Short: "Leave out records that are there already",
		Long:  distinctHelp + "\n\n" + formatsHelp,
		Example: `  partd distinct log-1.csv log-2.csv
  partd distinct --by user -o first-visits.csv visits-*.csv.gz
  partd distinct --by=-1 list.txt`,
		Args: takes(1, -1, "FILE (- is standard input)"),
	}
	d := distinct{by: cmd.Flags().String("by", "", "the fields `F,…` that tell whether two records are the same")}
	out := newOutputFlags(cmd)
	in := newInputFlags(cmd, "write what --stats shows as one JSON object", "")
	completeFields(cmd, "by", &in)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runFiles(cmd, a, args, &in, &out, &d, false)
	}
	return cmd
}

// distinct is one run of partd distinct. Records are sorted by the fields, and
// the first of each value is sorted by its place in the input. Before that, each
// worker leaves out what it has seen itself, as far as its memory goes: blocks
// come to it in the order of the input.
type distinct struct {
	job     *fileJob
	by      *string
	fields  []records.Field
	seen    []*seenKeys // of each worker
	keys    [][]byte
	sorter  *extsort.Sorter
	dropped atomic.Int64
}

func (d *distinct) plan(j *fileJob) (err error) {
	d.job = j
	if *d.by != "" {
		if d.fields, err = resolveBy(*d.by, j.layout, j.files.columns); err != nil {
			return fieldError("by", *d.by, j, err)
		}
		for i := range d.fields {
			d.fields[i].Optional = true
		}
	}
	d.keys = make([][]byte, *j.in.threads)
	return nil
}

func (d *distinct) run(parent context.Context, j *fileJob) (err error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	memory := j.engineMemory()
	for range *j.in.threads {
		s := &seenKeys{ctx: ctx, temp: j.temp, memory: memory / 4 / int64(*j.in.threads)}
		d.seen = append(d.seen, s)
		defer func() { err = alsoFailed(err, s.close()) }()
	}
	d.sorter, err = extsort.New(ctx, &extsort.Options{Memory: memory / 2, Threads: *j.in.threads, Temp: j.temp})
	if err != nil {
		return err
	}
	defer func() { err = alsoFailed(err, d.sorter.Close()) }()
	inOrder, err := extsort.New(ctx, &extsort.Options{Memory: memory / 4, Threads: *j.in.threads, Temp: j.temp})
	if err != nil {
		return err
	}
	defer func() { err = alsoFailed(err, inOrder.Close()) }()
	if err := j.read(ctx, cancel, d.fields, d.use); err != nil {
		return err
	}
	j.bar.Wait("finding the first of each", nil)
	if err := d.firsts(inOrder); err != nil {
		return err
	}
	j.bar.Wait("writing", nil)
	if err := j.writeSorted(inOrder); err != nil {
		return err
	}
	in, out := j.tally.Records, inOrder.Stats().Records
	if in != out+d.dropped.Load() {
		return fmt.Errorf("%d records were read, but %d written and %d left out", in, out, d.dropped.Load())
	}
	j.report.add("distinct", "distinct", out)
	j.report.add("dropped", "dropped", d.dropped.Load())
	j.report.add("proof", "proof", fmt.Sprintf("%s records read are %s written and %s dropped; the sum of the hashes of those written is %v",
		commas(in), commas(out), commas(d.dropped.Load()), inOrder.Stats().Sum))
	return nil
}

// use sorts the records of a block that its worker has not seen.
func (d *distinct) use(b *records.Block) (err error) {
	w, err := d.sorter.Batch(uint64(b.Seq))
	if err != nil {
		return err
	}
	defer func() { err = alsoFailed(err, w.Close()) }()
	seen := d.seen[b.Worker]
	buf := d.keys[b.Worker]
	defer func() { d.keys[b.Worker] = buf }()
	dropped := int64(0)
	for b.Next() {
		key := trimNewline(b.Record)
		if buf = buf[:0]; len(d.fields) > 0 {
			key, buf = d.job.keyBy(buf, b.Fields, b.Bare)
		}
		known, err := seen.add(key)
		if err != nil {
			return err
		}
		if known {
			dropped++
			continue
		}
		// The place in the input goes with the record.
		from := len(buf)
		buf = binary.BigEndian.AppendUint64(buf, uint64(b.Offset()))
		buf = append(buf, b.Record...)
		if err := w.Add(key, buf[from:]); err != nil {
			return tooLong(b, err)
		}
	}
	d.dropped.Add(dropped)
	return nil
}

// firsts sorts the first record of each value by its place in the input.
func (d *distinct) firsts(inOrder *extsort.Sorter) (err error) {
	w, err := inOrder.Writer()
	if err != nil {
		return err
	}
	defer func() { err = alsoFailed(err, w.Close()) }()
	for b, err := range d.sorter.Sorted() {
		if err != nil {
			return err
		}
		for i := range b.Len() {
			if b.SameKey(i) {
				d.dropped.Add(1)
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
