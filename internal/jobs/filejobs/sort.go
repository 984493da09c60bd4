package filejobs

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/jobs/aggregate"
	"github.com/go-partd/partd/internal/jobs/records"
)

type sortEngine struct {
	by         string
	names      []string // names of the fields
	written    []string // the fields as listed, with their orders
	descending bool     // sort in descending order, except fields with :asc
	firstField int      // index of the first sort field in a record's fields
	fields     []records.Field
	orders     []FieldOrder
	stats      [][]fieldStats // indexed by worker and field
}

// Sort returns an engine that sorts records by the fields listed in by.
func Sort(by string) Engine { return &sortEngine{by: by} }

type FieldOrder struct{ Numeric, Desc, Asc bool }

// CutOrder cuts the order from the end of text, such as a single name with an order. names are the known names.
func CutOrder(text string, names []string) (name string, o FieldOrder) {
	list, err := splitNames(text, names)
	if err != nil || len(list) != 1 || list[0].alias != "" {
		return text, o
	}
	o = list[0].cutOrder()
	return list[0].text + list[0].after, o
}

// cutOrder removes the order, such as :n:desc, from the end of the name.
func (n *fieldName) cutOrder() (o FieldOrder) {
	text := &n.after
	if !n.isQuoted && n.after == "" {
		text = &n.text
	}
	for {
		colon := max(strings.LastIndexByte(*text, ':'), 0)
		switch (*text)[colon:] {
		case ":n":
			o.Numeric = true
		case ":desc":
			o.Desc, o.Asc = true, false
		case ":asc":
			o.Desc, o.Asc = false, true
		default:
			return o
		}
		*text = (*text)[:colon]
	}
}

func (s *sortEngine) Plan(j *Job) error {
	names, err := splitNames(s.by, j.Inputs.Columns)
	if err == nil {
		err = refuseAliases(names)
	}
	if err != nil {
		return OptionErrorf("--by: %w", err)
	}
	for _, name := range names {
		order := name.cutOrder()
		f, err := name.resolve(j.From, j.Inputs.Columns)
		if err != nil {
			if strings.Contains(name.after, ":") || !name.isQuoted && strings.Contains(name.text, ":") {
				err = fmt.Errorf("%w (only :n, :asc and :desc may follow a field name)", err)
			}
			return j.Inputs.FieldError("by", name.written, j.From, err)
		}
		f.Optional = true
		order.Desc = order.Desc || s.descending && !order.Asc
		s.fields, s.orders = append(s.fields, f), append(s.orders, order)
		s.names, s.written = append(s.names, nameOf(f, j.From, j.Inputs.Columns)), append(s.written, name.written)
	}
	s.stats = make([][]fieldStats, j.Threads)
	for i := range s.stats {
		s.stats[i] = make([]fieldStats, len(names))
	}
	return nil
}

func (s *sortEngine) Run(ctx context.Context, j *Job) error {
	sorter, err := j.NewSorter(ctx, j.engineMemory(), false)
	if err != nil {
		return err
	}
	if err := j.Read(ctx, s.fields, j.sortBy(sorter, s.setSortKey)); err != nil {
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
	j.ReportSorter(stats)
	j.Notes = s.notes()
	return nil
}

func (j *Job) writeSorted(sorter *extsort.Sorter) error {
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

// setSortKey sets a record's sort key. It marks the record as bad if a numeric field is not a
// number.
func (s *sortEngine) setSortKey(b *records.Block, r *sortRecord) (bool, error) {
	fields := b.Fields[s.firstField:]
	s.examine(b.Worker, fields)
	if len(s.fields) == 1 && !s.orders[0].Numeric && !s.orders[0].Desc {
		r.key = fields[0]
		return true, nil
	}
	key, badIndex := s.appendKey(r.buf, fields)
	r.key, r.buf = key, key
	if badIndex >= 0 {
		b.MarkBad(fmt.Errorf("field %s of --by must be a number, not %s", QuoteShort([]byte(s.names[badIndex])), NotNumber(fields[badIndex])))
	}
	return badIndex < 0, nil
}

// The key of a number begins with one of these bytes, so that missing numbers come first.
const (
	MissingNumber = 0
	PresentNumber = 1
)

// appendKey appends a sort key. It returns the index of the first numeric field that is not a
// number, or -1.
func (s *sortEngine) appendKey(key []byte, fields [][]byte) ([]byte, int) {
	for i, f := range fields {
		from := len(key)
		o := s.orders[i]
		switch {
		case o.Numeric && len(f) == 0:
			key = append(key, MissingNumber)
		case o.Numeric:
			var ok bool
			key, ok = extsort.AppendDecimal(append(key, PresentNumber), bytes.Trim(f, " "))
			if !ok {
				return key, i
			}
		case i == len(fields)-1 && !o.Desc:
			key = append(key, f...)
		default:
			key = extsort.AppendText(key, f)
		}
		if o.Desc {
			extsort.Invert(key[from:])
		}
	}
	return key, -1
}

// fieldStats describes the first values of a field, to detect numbers that are compared as bytes.
type fieldStats struct {
	examined     int
	notNumeric   bool
	length       int  // length of the first value
	orderDiffers bool // the byte order can differ from the numeric order
}

// examine updates the worker's statistics about the fields that are compared as bytes.
func (s *sortEngine) examine(worker int, fields [][]byte) {
	const maxSeen = 1000
	for i := range s.stats[worker] {
		stats, v := &s.stats[worker][i], fields[i]
		if stats.examined == maxSeen || stats.notNumeric || s.orders[i].Numeric || len(v) == 0 {
			continue
		}
		stats.examined++
		if stats.examined == 1 {
			stats.length = len(v)
		}
		_, ok := aggregate.ParseNumber(v)
		stats.notNumeric = !ok
		stats.orderDiffers = stats.orderDiffers || len(v) != stats.length || v[0] == '-'
	}
}

// notes warns about fields that look like numbers but were compared as bytes.
func (s *sortEngine) notes() (notes []string) {
	for i, name := range s.names {
		var total fieldStats
		for _, l := range s.stats {
			total.notNumeric = total.notNumeric || l[i].notNumeric
			total.orderDiffers = total.orderDiffers || l[i].orderDiffers || l[i].examined > 0 && total.examined > 0 && l[i].length != total.length
			if l[i].examined > 0 {
				total.examined, total.length = l[i].examined, l[i].length
			}
		}
		if total.orderDiffers && !total.notNumeric {
			notes = append(notes, fmt.Sprintf("the values of %s look like numbers, but were compared as bytes: use --by %s:n to compare numbers", QuoteShort([]byte(name)), textfmt.ShellQuote(s.written[i])))
		}
	}
	return notes
}
