package tables

import (
	"context"
	"fmt"
	"math"
	"sort"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"
)

// autoPartition chooses the periods for rows between two times, and says why.
func autoPartition(first, last time.Time) (p Partition, why string) {
	span := fmt.Sprintf("the rows are from %s to %s, which is ", first.UTC().Format(time.DateOnly), last.UTC().Format(time.DateOnly))
	switch {
	case last.Before(first.AddDate(1, 0, 0)):
		return PartitionMonth, span + "less than a year"
	case last.Before(first.AddDate(3, 0, 0)):
		return PartitionQuarter, span + "less than three years"
	}
	return PartitionYear, span + "three years or more"
}

// cut says where the files of a table with a time column end. A nil cut is nowhere.
type cut struct {
	by          Partition
	column      int // the time column
	of          arrow.DataType
	first, last int64 // the lowest and highest time that was seen, if any was
	some        bool
}

// newCut returns the cut for a table as it is; nil if its files are not cut.
func newCut(ctx context.Context, t *table.Table, kept *arrow.Schema) (*cut, error) {
	s, err := settingsOf(t.Properties())
	if err != nil || !s.Cuts() {
		return nil, err
	}
	column := kept.FieldIndices(s.Time)[0]
	c := &cut{by: s.Partition, column: column, of: kept.Field(column).Type}
	if c.by != PartitionAuto || t.CurrentSnapshot() == nil {
		return c, nil
	}
	o, err := orderOf(t.Metadata())
	if err != nil {
		return nil, err
	}
	files, err := o.files(ctx, t)
	for _, f := range files {
		if f.bounds != nil {
			c.see(f.bounds.Lowest)
			c.see(f.bounds.Highest)
		}
	}
	return c, err
}

// see takes a time into account for the choice of periods.
func (c *cut) see(v int64) {
	if !c.some {
		c.first, c.last, c.some = v, v, true
	}
	c.first, c.last = min(c.first, v), max(c.last, v)
}

// chosen returns the periods, and why they are.
func (c *cut) chosen() (Partition, string) {
	if c.by != PartitionAuto {
		return c.by, "it was asked for"
	}
	if !c.some {
		return PartitionMonth, "there are no rows yet"
	}
	return autoPartition(c.time(c.first), c.time(c.last))
}

func (c *cut) time(v int64) time.Time {
	if c.of.ID() == arrow.DATE32 {
		return arrow.Date32(v).ToTime()
	}
	return arrow.Timestamp(v).ToTime(c.of.(*arrow.TimestampType).Unit)
}

// value is the number of a time, that of the type's last or first for times beyond.
func (c *cut) value(t time.Time) int64 {
	seconds := t.Unix()
	if c.of.ID() == arrow.DATE32 {
		return seconds / (24 * 60 * 60)
	}
	per := int64(time.Second / c.of.(*arrow.TimestampType).Unit.Multiplier())
	switch {
	case seconds > math.MaxInt64/per:
		return math.MaxInt64
	case seconds < math.MinInt64/per:
		return math.MinInt64
	}
	return seconds * per
}

// end returns the first value after the period that a time is in. The last period
// does not end.
func (c *cut) end(v int64) int64 {
	if c != nil && v > math.MinInt64 {
		by, _ := c.chosen()
		if end := c.value(by.Next(c.time(v))); end > v {
			return end
		}
	}
	return math.MaxInt64 // or of a time in a year that a calendar does not have
}

// periods is rows in the order of their time, one period after the other. Where the
// periods are chosen from the data, these are the table's rows and those so far:
// later periods may be longer.
type periods struct {
	cut  *cut
	next func() (arrow.RecordBatch, error, bool)
	rest arrow.RecordBatch // rows that were not handed on yet; nil: none
	end  int64             // of the period
	err  error
}

// begin goes to the next period, and reports whether there is one.
func (p *periods) begin() bool {
	if !p.fill() {
		return false
	}
	if p.cut == nil {
		p.end = math.MaxInt64
		return true
	}
	v := timeAt(p.rest.Column(p.cut.column), 0)
	if v > math.MinInt64 {
		p.cut.see(v)
	}
	p.end = p.cut.end(v)
	return true
}

// timeAt returns a value of a time column; nulls, which somebody else may have put,
// come first.
func timeAt(times arrow.Array, row int) int64 {
	if times.IsNull(row) {
		return math.MinInt64
	}
	if days, ok := times.(*array.Date32); ok {
		return int64(days.Value(row))
	}
	return int64(times.(*array.Timestamp).Value(row))
}

// fill makes rest some rows.
func (p *periods) fill() bool {
	for p.rest == nil && p.err == nil {
		b, err, ok := p.next()
		if !ok {
			return false
		}
		if p.err = err; err == nil && b.NumRows() > 0 {
			p.rest = b
		} else if b != nil {
			b.Release()
		}
	}
	return p.err == nil
}

// batches yields the rows of the period.
func (p *periods) batches(yield func(arrow.RecordBatch, error) bool) {
	for p.fill() {
		rows := int(p.rest.NumRows())
		n := rows
		if p.end < math.MaxInt64 {
			times := p.rest.Column(p.cut.column)
			n = sort.Search(rows, func(i int) bool { return timeAt(times, i) >= p.end })
		}
		if n == 0 {
			return
		}
		whole := p.rest
		if p.rest = nil; n < rows {
			p.rest = whole.NewSlice(int64(n), int64(rows))
		}
		part := whole.NewSlice(0, int64(n))
		whole.Release()
		if !yield(part, nil) {
			return
		}
	}
	if p.err != nil {
		yield(nil, p.err)
	}
}

func (p *periods) release() {
	if p.rest != nil {
		p.rest.Release()
	}
}
