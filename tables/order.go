package tables

import (
	"context"
	"encoding/binary"
	"math"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// order is how the rows of a table with a time column are ordered.
type order struct{ *definition.Order }

// orderOf returns the order of a table, nil if it has none.
func orderOf(meta table.Metadata) (*order, error) {
	d, err := definition.Of(meta)
	if err != nil || d.Order == nil {
		return nil, err
	}
	return orderIn(d), nil
}

func orderIn(d *definition.Definition) *order {
	if d.Order == nil {
		return nil
	}
	return &order{d.Order}
}

// without is the order without its rule for duplicates.
func (o *order) without() *order {
	all := *o.Order
	all.Rule = KeepAll
	return &order{&all}
}

// placesOf returns the places of columns in a schema.
func placesOf(s *arrow.Schema, names []string) []int {
	places := make([]int, len(names))
	for i, name := range names {
		places[i] = s.FieldIndices(name)[0]
	}
	return places
}

// check refuses rows with a null in a column of the order.
func (o *order) check(batch arrow.RecordBatch, names []string) error {
	for _, name := range names {
		column := batch.Column(batch.Schema().FieldIndices(name)[0])
		if column.NullN() == 0 {
			continue
		}
		row := 0
		for column.IsValid(row) {
			row++
		}
		return schema.Errorf(name, "row %d of a batch has a null (of %d in it), and the column orders the table's rows: it must have a value", row, column.NullN())
	}
	return nil
}

// checkOrder is check for batches; without an order there is nothing to check.
func checkOrder(o *definition.Order, rows []arrow.RecordBatch) error {
	if o == nil {
		return nil
	}
	for _, b := range rows {
		if err := (&order{o}).check(b, o.Names); err != nil {
			return err
		}
	}
	return nil
}

// bounds returns those of a file's times, nil if they are not known.
func (o *order) bounds(f iceberg.DataFile) *sorted.Bounds {
	low, okLow := bound(f.LowerBoundValues()[o.IDs[0]])
	high, okHigh := bound(f.UpperBoundValues()[o.IDs[0]])
	if nulls, known := f.NullValueCounts()[o.IDs[0]]; !okLow || !okHigh || !known || nulls > 0 {
		return nil
	}
	return &sorted.Bounds{Lowest: low, Highest: high}
}

// bound reads a value of a date or a time as Iceberg's manifests have it.
func bound(b []byte) (int64, bool) {
	switch len(b) {
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(b))), true
	case 8:
		return int64(binary.LittleEndian.Uint64(b)), true
	}
	return 0, false
}

// batchBounds returns those of the times of sorted rows, at least one.
func batchBounds(batch arrow.RecordBatch, column int) *sorted.Bounds {
	times := batch.Column(column)
	if times.Len() == 0 || times.NullN() > 0 {
		return nil
	}
	if days, ok := times.(*array.Date32); ok {
		return &sorted.Bounds{Lowest: int64(days.Value(0)), Highest: int64(days.Value(days.Len() - 1))}
	}
	stamps := times.(*array.Timestamp)
	return &sorted.Bounds{Lowest: int64(stamps.Value(0)), Highest: int64(stamps.Value(stamps.Len() - 1))}
}

// inOrder reports whether the rows of a file are in the order.
func (o *order) inOrder(f iceberg.DataFile) bool {
	return f.SortOrderID() != nil && *f.SortOrderID() == o.Sort
}

// within returns the condition for times of a column within bounds, which are in
// the type that is kept; nil for all.
func within(b *sorted.Bounds, column arrow.Field, kept arrow.DataType) (*filter.Expr, error) {
	if b == nil {
		return nil, nil
	}
	o := &ScanOptions{TimeColumn: column.Name}
	if from, ok := timeOf(b.Lowest, kept); ok {
		o.From = from
	}
	if b.Highest < math.MaxInt64 {
		if to, ok := timeOf(b.Highest+1, kept); ok {
			o.To = to
		}
	}
	return timeRange(arrow.NewSchema([]arrow.Field{column}, nil), o)
}

// timeType returns the type in which the times are kept.
func (o *order) timeType(s *iceberg.Schema) arrow.DataType {
	kept, err := keptSchema(s)
	if err != nil {
		return nil
	}
	return kept.Field(kept.FieldIndices(o.Names[0])[0]).Type
}

// timeOf returns a time that a file has as a number. It reports whether filters
// can say it.
func timeOf(n int64, t arrow.DataType) (at time.Time, ok bool) {
	switch t := t.(type) {
	case *arrow.TimestampType:
		at = arrow.Timestamp(n).ToTime(t.Unit)
	default:
		if n > math.MaxInt32 {
			return at, false
		}
		at = arrow.Date32(n).ToTime()
	}
	return at, at.Year() >= 1 && at.Year() <= 9999 && !at.IsZero()
}

// marked gives files the sort order whose rows they have.
func (o *order) marked(meta table.Metadata, files []iceberg.DataFile) ([]iceberg.DataFile, error) {
	all := make([]iceberg.DataFile, len(files))
	for i, f := range files {
		b, err := datafile.Rebuild(meta.PartitionSpec(), f, f.FilePath())
		if err != nil {
			return nil, err
		}
		all[i] = b.SortOrderID(o.Sort).Build()
	}
	return all, nil
}

// overlapping returns the files of a table whose times overlap with some.
func (o *order) overlapping(ctx context.Context, t *table.Table, with []*sorted.Bounds) (files []*orderedFile, err error) {
	if t.CurrentSnapshot() == nil {
		return nil, nil
	}
	all, err := o.files(ctx, t)
	for _, f := range all {
		for _, b := range with {
			if b.Overlaps(f.bounds) {
				files = append(files, f)
				break
			}
		}
	}
	return files, err
}
