package filejobs

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/aggregate"
	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/records"
	"github.com/go-partd/partd/internal/textfmt"
)

// sortEngine is one run of [Sort].
type sortEngine struct {
	by         string
	names      []string // the listed fields, with their orders
	descending bool     // descending, except fields with :asc
	from       int      // index of the first sort field among the fields of a record
	fields     []records.Field
	orders     []fieldOrder
	looks      [][]fieldStats // for each worker, for each field
}

// Sort returns an engine that sorts records by the fields of by.
func Sort(by string) Engine { return &sortEngine{by: by} }

// fieldOrder selects how a field is compared.
type fieldOrder struct{ numeric, desc, asc bool }

// orderedField splits a field and its order, such as "x:n:desc". If the whole text is the name
// of a column, it has no order.
func orderedField(text string, columns []string) (name string, o fieldOrder) {
	for !slices.Contains(columns, text) {
		colon := max(strings.LastIndexByte(text, ':'), 0)
		switch text[colon:] {
		case ":n":
			o.numeric = true
		case ":desc":
			o.desc, o.asc = true, false
		case ":asc":
			o.desc, o.asc = false, true
		default:
			return text, o
		}
		text = text[:colon]
	}
	return text, o
}

func (s *sortEngine) plan(j *job) error {
	names, err := splitNames(s.by, j.Inputs.Columns)
	if err != nil {
		return optionErrorf("--by: %w", err)
	}
	for _, text := range names {
		name, order := orderedField(text, j.Inputs.Columns)
		f, err := j.From.Resolve(name, j.Inputs.Columns)
		if err != nil {
			if strings.Contains(name, ":") {
				err = fmt.Errorf("%w (only :n, :asc and :desc may follow the name of a field)", err)
			}
			return j.fieldError("by", text, err)
		}
		f.Optional = true
		order.desc = order.desc || s.descending && !order.asc
		s.fields, s.orders = append(s.fields, f), append(s.orders, order)
	}
	s.looks = make([][]fieldStats, j.Threads)
	for i := range s.looks {
		s.looks[i] = make([]fieldStats, len(names))
	}
	s.names = names
	return nil
}

func (s *sortEngine) run(ctx context.Context, j *job) error {
	sorter, err := j.newSorter(ctx, j.engineMemory(), false)
	if err != nil {
		return err
	}
	if err := j.read(ctx, s.fields, j.sortBy(sorter, s.placeKey)); err != nil {
		return err
	}
	j.Bar.Wait("merging", nil)
	if err := j.writeSorted(sorter); err != nil {
		return err
	}
	stats := sorter.Stats()
	if stats.Records != j.Tally.Records || stats.Bytes != j.Tally.RecordBytes {
		return fmt.Errorf("%d records of %d bytes were read, but %d of %d bytes were sorted", j.Tally.Records, j.Tally.RecordBytes, stats.Records, stats.Bytes)
	}
	j.reportSorter(stats)
	j.Notes = s.notes()
	return nil
}

func (j *job) writeSorted(sorter *extsort.Sorter) error {
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
	if want := sorter.Stats().Bytes; c.bytes != want {
		return fmt.Errorf("%d bytes of records were written instead of %d", c.bytes, want)
	}
	return nil
}

func (s *sortEngine) placeKey(b *records.Block, r *sortRecord) (bool, error) {
	fields := b.Fields[s.from:]
	s.fieldStats(b.Worker, fields)
	if len(s.fields) == 1 && !s.orders[0].numeric && !s.orders[0].desc {
		r.key = fields[0]
		return true, nil
	}
	key, bad := s.appendKey(r.buf, fields)
	r.key, r.buf = key, key
	if bad >= 0 {
		b.Bad(fmt.Errorf("field %d of --by must be a number, but is %s", bad+1, quoteShort(fields[bad])))
	}
	return bad < 0, nil
}

// The first byte in the key of a number, so that missing numbers come first.
const (
	missing = 0
	present = 1
)

// appendKey appends a key that sorts like the fields of a record. It returns the index of the
// first field that should be a number but is not, or -1.
func (s *sortEngine) appendKey(key []byte, fields [][]byte) ([]byte, int) {
	for i, f := range fields {
		from := len(key)
		o := s.orders[i]
		switch {
		case o.numeric && len(f) == 0:
			key = append(key, missing)
		case o.numeric:
			var ok bool
			if key, ok = extsort.AppendDecimal(append(key, present), bytes.Trim(f, " ")); !ok {
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

// fieldStats describes the first values of a field.
type fieldStats struct {
	seen   int
	other  bool // some value is not a number
	length int  // length of the first value
	uneven bool // the byte order may differ from the numeric order
}

// fieldStats examines the fields of a record that are compared as bytes.
func (s *sortEngine) fieldStats(worker int, fields [][]byte) {
	const maxSeen = 1000
	for i := range s.looks[worker] {
		l, v := &s.looks[worker][i], fields[i]
		if l.seen == maxSeen || l.other || s.orders[i].numeric || len(v) == 0 {
			continue
		}
		if l.seen++; l.seen == 1 {
			l.length = len(v)
		}
		_, ok := aggregate.ParseNumber(v)
		l.other = !ok
		l.uneven = l.uneven || len(v) != l.length || v[0] == '-'
	}
}

// notes warns about fields that look like numbers but were compared as bytes.
func (s *sortEngine) notes() (notes []string) {
	for i, name := range s.names {
		var all fieldStats
		for _, l := range s.looks {
			all.other = all.other || l[i].other
			all.uneven = all.uneven || l[i].uneven || l[i].seen > 0 && all.seen > 0 && l[i].length != all.length
			if l[i].seen > 0 {
				all.seen, all.length = l[i].seen, l[i].length
			}
		}
		if all.uneven && !all.other {
			notes = append(notes, fmt.Sprintf("the values of %s look like numbers, but were compared as bytes: use --by %s:n to compare numbers", quoteShort([]byte(name)), textfmt.ShellQuote(name)))
		}
	}
	return notes
}
