package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/records"
)

const sortHelp = `Read files, and write their records sorted by the fields of --by: by the first,
where that is the same by the second, and so on; records that are the same in all
of them stay in the order of the input. The header stays in front. Any size will
do: what does not fit the memory goes to temporary files.

A field is a name or a number, and may be followed by
  :n     compare numbers, exactly, whatever the number of digits. A value that is
         no number is an error with file and line, or left out with --skip-bad
  :desc  the last first (:asc is the first first, as without it)
Without :n bytes are compared, as "LC_ALL=C sort" does. A missing value (an empty
field; null or no member in jsonl) comes before all others, with :desc after them.

A record, with its fields of --by once more, may be as long as a hundredth of
--memory.

At the end the records written are compared with those read: their number, their
bytes, and a checksum over all of them (the sum of xxh3-128 of each).`

func newSort(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sort --by F[:n][:desc][,F…] [flags] [--] FILE…",
		Short: "Sort files by fields",
		Long:  sortHelp + "\n\n" + formatsHelp,
		Example: `  partd sort --by "Origin State" birdstrikes.csv
  partd sort --by "size:n:desc,name" -o sorted.csv.zst part-*.csv
  partd sort --by 3:n --no-header --format tsv --memory 1GiB -`,
		Args: takes(1, -1, "FILE (- is standard input)"),
	}
	s := sorting{by: cmd.Flags().String("by", "", "the fields `F,…` to sort by, each with :n, :desc or both")}
	out := newOutputFlags(cmd)
	in := newInputFlags(cmd, "write what --stats shows as one JSON object", "")
	completeFields(cmd, "by", &in)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *s.by == "" {
			return usagef("--by is missing: which fields are the records sorted by?")
		}
		return runFiles(cmd, a, args, &in, &out, &s, false)
	}
	return cmd
}

// sorting is one run of partd sort.
type sorting struct {
	by     *string
	down   bool // the last first, but for fields with :asc
	fields []records.Field
	orders []fieldOrder
	sorter *extsort.Sorter
	keys   [][]byte // of each worker
	looks  [][]look // so, too, of each field
}

// fieldOrder is how a field is compared.
type fieldOrder struct{ numeric, desc, asc bool }

// orderedField takes the order off the text that names a field. A text that is
// the name of a column as a whole has none.
func orderedField(text string, columns []string) (name string, o fieldOrder) {
	for !slices.Contains(columns, text) {
		switch rest, option := cutLast(text, ":"); option {
		case "n":
			text, o.numeric = rest, true
		case "desc":
			text, o.desc, o.asc = rest, true, false
		case "asc":
			text, o.desc, o.asc = rest, false, true
		default:
			return text, o
		}
	}
	return text, o
}

// cutLast cuts a text at the last separator.
func cutLast(text, sep string) (before, after string) {
	if i := strings.LastIndex(text, sep); i >= 0 {
		return text[:i], text[i+len(sep):]
	}
	return text, ""
}

func (s *sorting) plan(j *fileJob) error {
	names, err := splitNames(*s.by, j.files.columns)
	if err != nil {
		return usagef("--by: %w", err)
	}
	for _, text := range names {
		name, order := orderedField(text, j.files.columns)
		f, err := j.layout.Resolve(name, j.files.columns)
		if err != nil {
			if strings.Contains(name, ":") {
				err = fmt.Errorf("%w (after the name of a field there are :n, :asc and :desc)", err)
			}
			return fieldError("by", text, j, err)
		}
		f.Optional = true
		order.desc = order.desc || s.down && !order.asc
		s.fields, s.orders = append(s.fields, f), append(s.orders, order)
	}
	s.keys = make([][]byte, *j.in.threads)
	s.looks = make([][]look, *j.in.threads)
	for i := range s.looks {
		s.looks[i] = make([]look, len(names))
	}
	j.notes = func() []string { return s.notes(names) }
	return nil
}

func (s *sorting) run(parent context.Context, j *fileJob) (err error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	s.sorter, err = extsort.New(ctx, &extsort.Options{Memory: j.engineMemory(), Threads: *j.in.threads, Temp: j.temp})
	if err != nil {
		return err
	}
	defer func() { err = alsoFailed(err, s.sorter.Close()) }()
	if err := j.read(ctx, cancel, s.fields, s.use); err != nil {
		return err
	}
	j.bar.Wait("merging", nil)
	if err := j.writeSorted(s.sorter); err != nil {
		return err
	}
	stats := s.sorter.Stats()
	if stats.Records != j.tally.Records || stats.Bytes != j.tally.RecordBytes {
		return fmt.Errorf("%d records of %d bytes were read, but %d of %d bytes sorted", j.tally.Records, j.tally.RecordBytes, stats.Records, stats.Bytes)
	}
	j.report.addSorter(stats)
	return nil
}

// addSorter adds what a sorter proved.
func (r *report) addSorter(stats extsort.Stats) {
	r.add("checksum", "", stats.Sum.String())
	r.add("proof", "proof", fmt.Sprintf("%s records in, as many out; the sum of their hashes is %v, in and out", commas(stats.Records), stats.Sum))
	r.add("runs", "", stats.Runs)
	r.add("temporary_bytes", "temporary", stats.Written)
}

// writeSorted writes what a sorter has sorted.
func (j *fileJob) writeSorted(sorter *extsort.Sorter) error {
	c, err := newConverter(j, j.sink)
	if err != nil {
		return err
	}
	for b, err := range sorter.Sorted() {
		if err != nil {
			return err
		}
		if err := c.write(j.sink, b.Data); err != nil {
			return err
		}
	}
	if all := sorter.Stats().Bytes; c.bytes != all {
		return fmt.Errorf("records of %d bytes were to be written, but %d were", all, c.bytes)
	}
	return nil
}

// use adds the records of a block.
func (s *sorting) use(b *records.Block) (err error) {
	w, err := s.sorter.Batch(uint64(b.Seq))
	if err != nil {
		return err
	}
	defer func() { err = alsoFailed(err, w.Close()) }()
	key := s.keys[b.Worker]
	defer func() { s.keys[b.Worker] = key }()
	for b.Next() {
		s.look(b)
		if len(s.fields) == 1 && !s.orders[0].numeric && !s.orders[0].desc {
			if err := w.Add(b.Fields[0], b.Record); err != nil {
				return tooLong(b, err)
			}
			continue
		}
		var bad int
		if key, bad = s.appendKey(key[:0], b.Fields); bad >= 0 {
			b.Bad(s.noNumber(bad, b.Fields))
			continue
		}
		if err := w.Add(key, b.Record); err != nil {
			return tooLong(b, err)
		}
	}
	return nil
}

func (s *sorting) noNumber(i int, fields [][]byte) error {
	return fmt.Errorf("field %d of --by is compared as a number, and %s is none", i+1, quoteShort(fields[i]))
}

// What the key of a number begins with, so that missing ones come first.
const (
	missing = 0
	present = 1
)

// appendKey appends the key of a record: bytes that order as the fields do. It
// returns the first field that should be a number and is none, or -1.
func (s *sorting) appendKey(key []byte, fields [][]byte) ([]byte, int) {
	for i, f := range fields {
		from := len(key)
		o := s.orders[i]
		switch {
		case o.numeric && len(f) == 0:
			key = append(key, missing)
		case o.numeric:
			var ok bool
			if key, ok = extsort.AppendDecimal(append(key, present), trimSpaces(f)); !ok {
				return key, i
			}
		case i == len(fields)-1 && !o.desc:
			key = append(key, f...)
		default:
			key = extsort.AppendText(key, f)
		}
		if o.desc {
			extsort.Invert(key[from:])
		}
	}
	return key, -1
}

func trimSpaces(f []byte) []byte {
	for len(f) > 0 && f[0] == ' ' {
		f = f[1:]
	}
	for len(f) > 0 && f[len(f)-1] == ' ' {
		f = f[:len(f)-1]
	}
	return f
}
