package transform

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sqlquote"
)

// fillers give a bin what the rows next to its label have, where the other functions
// take the rows within it.
var fillers = []string{"ffill", "bfill", "nearest", "asfreq", "interpolate"}

// filler is the function of a resampling that fills; "": it has others.
func (q *resampling) filler() string {
	if len(q.all) > 0 && slices.Contains(fillers, q.all[0].function) {
		return q.all[0].function
	}
	return ""
}

// filled returns the result of a function that fills. The engine sorts the rows, labels
// are put between them, and no more is held of either than a batch.
func (q *resampling) filled(ctx context.Context, s *tables.Store, from TableName) (array.RecordReader, error) {
	if err := q.bounds(ctx, s, from); err != nil || !q.known {
		return arrowsafe.Reader(q.schema, func(func(arrow.RecordBatch, error) bool) {}, func() {}), err
	}
	f := &filling{resampling: q, live: ctx.Err}
	passes := 1
	f.into = &nearby{filling: f}
	if q.filler() == "interpolate" {
		f.into, passes = &interpolation{filling: f, lines: make([]line, len(q.all))}, 2
	}
	at, table, made := sqlquote.Name(q.time), sqlquote.Name(from.Name), ""
	for i, a := range q.all {
		made += fmt.Sprintf(", %s AS a%d", a.sql, i)
	}
	rows, err := s.Query(ctx, fmt.Sprintf(`SELECT pass, t, (SELECT %[1]s FROM %[3]s) AS lo, (SELECT %[2]s FROM %[3]s) AS hi, (SELECT count(*) FROM %[3]s) AS n%[4]s
FROM (SELECT %[5]s FROM %[3]s), (SELECT range AS pass FROM range(%[6]d)) WHERE t IS NOT NULL ORDER BY pass, t`,
		q.epoch("min("+at+")"), q.epoch("max("+at+")"), table, made, q.inner(), passes), &tables.QueryOptions{Bucket: from.Bucket, Nanoseconds: q.nanos})
	if err != nil {
		return nil, err
	}
	return arrowsafe.Reader(q.schema, func(yield func(arrow.RecordBatch, error) bool) {
		f.yield = yield
		var err error
		for err == nil && !f.ended && rows.Next() {
			err = f.add(rows.RecordBatch())
		}
		err = cmp.Or(err, rows.Err())
		if err == nil && f.begun && !f.ended {
			err = f.endPass()
		}
		if err != nil && !f.ended {
			yield(nil, err)
		}
	}, rows.Release), nil
}

// filling goes over rows and labels in the order of their times.
type filling struct {
	*resampling
	into  placing
	yield func(arrow.RecordBatch, error) bool
	ended bool         // nobody wants more
	live  func() error // what ended the call

	begun   bool
	pass    int64
	bin     int64 // the next one, and its label's time
	label   int64
	final   int64 // bin
	any     bool  // whether there was a row
	last    int64 // its time
	next    int64 // that of the next row, which is the label's or later
	isNext  bool  // whether there is one
	numbers []int64
}

// placing makes bins of what filling passes by.
type placing interface {
	begin(columns []arrow.Array) error // of the rows that follow
	fill(row int)                      // the next bin, before a row or with it
	row(row int)
	flush() error // hands on bins
	end() error   // of these rows
	again()       // all follow once more
}

// add goes over a batch of rows.
func (f *filling) add(b arrow.RecordBatch) error {
	var head [5][]int64 // what the statement has before the columns
	for i := range head {
		a, err := schema.ConvertArray(b.Column(i), integer)
		if err != nil {
			return err
		}
		defer a.Release()
		head[i] = a.(*array.Int64).Int64Values()
	}
	if !f.begun && b.NumRows() > 0 {
		f.begun, f.sourceRows = true, head[4][0]
		if err := f.bins.start(head[2][0], head[3][0]); err != nil {
			return err
		}
		f.final = f.bins.number(head[3][0])
		if err := f.goTo(0); err != nil {
			return err
		}
	}
	if err := f.into.begin(b.Columns()[len(head):]); err != nil {
		return err
	}
	for i, t := range head[1] {
		if head[0][i] != f.pass {
			if err := f.endPass(); err != nil {
				return err
			}
			f.into.again()
			f.pass, f.any = head[0][i], false
			if err := f.goTo(0); err != nil {
				return err
			}
		}
		if f.any && t == f.last {
			at := time.Unix(floorDiv(t, f.bins.second), (t-floorDiv(t, f.bins.second)*f.bins.second)*(1e9/f.bins.second)).UTC()
			return &tables.SchemaError{Column: f.time, Err: fmt.Errorf("two rows have the time %s, and %s takes one: leave out the others, or resample with last", at.Format(time.RFC3339Nano), f.filler())}
		}
		f.next, f.isNext = t, true
		if err := f.fillTo(i, t); err != nil {
			return err
		}
		f.into.row(i)
		f.any, f.last = true, t
	}
	return f.into.end()
}

// fillTo fills the bins whose labels are not behind a time.
func (f *filling) fillTo(row int, t int64) error {
	for f.bin <= f.final && f.label <= t && !f.ended {
		if len(f.numbers) == mostBins {
			if err := cmp.Or(f.live(), f.into.flush()); err != nil {
				return err
			}
		}
		f.numbers = append(f.numbers, f.bin)
		f.into.fill(row)
		if err := f.goTo(f.bin + 1); err != nil {
			return err
		}
	}
	return nil
}

// endPass fills the bins behind the last row.
func (f *filling) endPass() error {
	f.isNext = false
	if err := f.fillTo(0, math.MaxInt64); err != nil {
		return err
	}
	return f.into.flush()
}

func (f *filling) goTo(bin int64) (err error) {
	if f.bin = bin; bin <= f.final {
		f.label, err = f.bins.begin(bin)
	}
	return err
}

// hand hands on the bins in numbers, with their columns, which it releases.
func (f *filling) hand(numbers []int64, columns []arrow.Array) error {
	labels, err := f.labels(numbers)
	if err != nil {
		return err
	}
	all := append([]arrow.Array{labels}, columns...)
	f.ended = !f.yield(array.NewRecordBatch(f.schema, all, int64(len(numbers))), nil)
	for _, c := range all {
		c.Release()
	}
	return nil
}
