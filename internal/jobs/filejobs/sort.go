package filejobs

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/jobs/aggregate"
	"github.com/go-partd/partd/internal/jobs/records"
)

type sortEngine struct {
	by         string
	isSorted   bool     // each input is sorted already
	names      []string // the names in by without quotes and orders
	spellings  []string // the elements of by as the user wrote them
	descending bool     // sort in descending order, except fields with :asc
	firstField int      // index of the first sort field in a record's fields
	fields     []records.Field
	orders     []FieldOrder
	stats      [][]fieldStats // indexed by worker (with isSorted, by input) and field
}

// Sort returns an engine that sorts records by the fields listed in by. If isSorted is set, it only merges the inputs,
// each of which must be sorted already.
func Sort(by string, isSorted bool) Engine { return &sortEngine{by: by, isSorted: isSorted} }

type FieldOrder struct{ Numeric, Desc, Asc bool }

// OrderedField splits text such as "x:n:desc" into a field and its order. If the whole text is a
// column name, there is no order.
func OrderedField(text string, columns []string) (name string, o FieldOrder) {
	for !slices.Contains(columns, text) {
		colon := max(strings.LastIndexByte(text, ':'), 0)
		switch text[colon:] {
		case ":n":
			o.Numeric = true
		case ":desc":
			o.Desc, o.Asc = true, false
		case ":asc":
			o.Desc, o.Asc = false, true
		default:
			return text, o
		}
		text = text[:colon]
	}
	return text, o
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
		text := name.text
		var order FieldOrder
		if name.isQuoted {
			text = `"` + strings.ReplaceAll(name.text, `"`, `""`) + `"` + name.suffix
			name.suffix, order = OrderedField(name.suffix, nil)
		} else {
			name.text, order = OrderedField(text, j.Inputs.Columns)
		}
		f, err := name.resolve(j.From, j.Inputs.Columns)
		if err != nil {
			if strings.Contains(name.text, ":") || name.suffix != "" {
				err = fmt.Errorf("%w (only :n, :asc and :desc may follow a field name)", err)
			}
			return j.Inputs.FieldError("by", text, j.From, err)
		}
		f.Optional, f.Null, f.Number = true, order.Numeric, order.Numeric && j.From.Values.ReadsNumbers()
		order.Desc = order.Desc || s.descending && !order.Asc
		s.fields, s.orders, s.names = append(s.fields, f), append(s.orders, order), append(s.names, name.text)
		s.spellings = append(s.spellings, text)
	}
	readers := j.Threads
	if s.isSorted {
		readers = len(j.Inputs.Files)
	}
	s.stats = make([][]fieldStats, readers)
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
	if s.isSorted {
		err = s.mergeInputs(ctx, j, sorter)
	} else {
		err = s.sortInputs(ctx, j, sorter)
	}
	if err != nil {
		return err
	}
	stats := sorter.Stats()
	if stats.Records != j.Tally.Records || stats.Bytes != j.Tally.RecordBytes {
		return fmt.Errorf("%d records with %d bytes in all were read, but %d with %d bytes were sorted", j.Tally.Records, j.Tally.RecordBytes, stats.Records, stats.Bytes)
	}
	j.ReportSorter(stats)
	j.Notes = s.notes()
	return nil
}

func (s *sortEngine) sortInputs(ctx context.Context, j *Job, sorter *extsort.Sorter) error {
	if err := j.Read(ctx, s.fields, j.sortBy(sorter, s.setSortKey)); err != nil {
		return err
	}
	j.Bar.Wait("merging", nil)
	return j.writeSorted(sorter)
}

func (j *Job) writeSorted(sorter *extsort.Sorter) error {
	return j.writeSortedBy(sorter, func() (*converter, error) { return newConverter(j, j.sink) })
}

// writeSortedBy writes the records with the converter that begin returns. It calls begin when the first records are
// sorted.
func (j *Job) writeSortedBy(sorter *extsort.Sorter, begin func() (*converter, error)) (err error) {
	var c *converter
	for b, err := range sorter.Sorted() {
		if err == nil && c == nil {
			c, err = begin()
		}
		if err == nil {
			err = c.write(j.sink, b.Data)
		}
		if err != nil {
			return err
		}
	}
	if c == nil { // there are no records
		c, err = begin()
		if err != nil {
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
	return s.setKey(b, r, b.Worker)
}

// setKey is like setSortKey, but updates the statistics of the given reader.
func (s *sortEngine) setKey(b *records.Block, r *sortRecord, reader int) (bool, error) {
	fields := b.Fields[s.firstField:]
	s.examine(reader, fields)
	if len(s.fields) == 1 && !s.orders[0].Numeric && !s.orders[0].Desc {
		r.key = fields[0]
		return true, nil
	}
	key, badIndex := s.appendKey(r.buf, fields)
	r.key, r.buf = key, key
	if badIndex >= 0 {
		b.MarkBad(fmt.Errorf("field %s of --by must be a number, not %s%s", QuoteShort([]byte(s.names[badIndex])), QuoteShort(fields[badIndex]), aggregate.CommaHint(fields[badIndex])))
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

// examine updates a reader's statistics about the fields that are compared as bytes.
func (s *sortEngine) examine(reader int, fields [][]byte) {
	const maxSeen = 1000
	for i := range s.stats[reader] {
		stats, v := &s.stats[reader][i], fields[i]
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
	for i, name := range s.spellings {
		var total fieldStats
		for _, l := range s.stats {
			total.notNumeric = total.notNumeric || l[i].notNumeric
			total.orderDiffers = total.orderDiffers || l[i].orderDiffers || l[i].examined > 0 && total.examined > 0 && l[i].length != total.length
			if l[i].examined > 0 {
				total.examined, total.length = l[i].examined, l[i].length
			}
		}
		if total.orderDiffers && !total.notNumeric {
			notes = append(notes, fmt.Sprintf("the values of %s look like numbers, but were compared as bytes: use --by %s:n to compare numbers", QuoteShort([]byte(name)), textfmt.ShellQuote(name)))
		}
	}
	return notes
}
