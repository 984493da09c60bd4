// Package series reads and writes tables whose rows are in the order of time: it merges
// files and the rows of the tail, leaves out the duplicates that the table's rule does, cuts
// files by periods of time, and finds the last rows.
package series

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// Series is a state of a table whose rows have an order.
type Series struct {
	*definition.Order
	def    *definition.Definition
	table  *table.Table
	at     []table.ScanOption // the version; nil: the newest
	memory int64              // of which merges and sorts take a part
}

// New returns a table, as a definition of it that has an order says, as a Series. At chooses
// an older version.
func New(d *definition.Definition, t *table.Table, memory int64, at ...table.ScanOption) *Series {
	return &Series{d.Order, d, t, at, memory}
}

// Of is New for the newest version of a table; nil if its rows have no order.
func Of(t *table.Table, memory int64) (*Series, error) {
	d, err := definition.Of(t.Metadata())
	if err != nil || d.Order == nil {
		return nil, err
	}
	return New(d, t, memory), nil
}

// KeepingAll is the Series without its rule for duplicates.
func (s *Series) KeepingAll() *Series {
	all, order := *s, *s.Order
	order.Rule = definition.KeepAll
	all.Order = &order
	return &all
}

// Check refuses rows with a null in a column that orders them. Without an order there is
// nothing to check.
func Check(o *definition.Order, rows ...arrow.RecordBatch) error {
	if o == nil {
		return nil
	}
	for _, batch := range rows {
		for _, name := range o.Names {
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
	}
	return nil
}

// keys returns the places of the columns that order the rows.
func (s *Series) keys(columns *arrow.Schema) []int {
	places := make([]int, len(s.Names))
	for i, name := range s.Names {
		places[i] = columns.FieldIndices(name)[0]
	}
	return places
}

// projection is columns to read, in the order of the table's.
type projection struct {
	fields *arrow.Schema
	keys   []int // of the order, in the fields
	names  []string
	ahead  bool  // they are read before they are wanted
	few    int64 // rows that may be enough; 0: that is not known

	recycle bool // the memory of batches that were released is used again
}

// project returns the projection to some columns, nil for all.
func (s *Series) project(names []string) *projection {
	p := &projection{fields: s.def.Stored, names: names}
	if names != nil {
		p.fields = schema.Select(p.fields, names)
	}
	p.keys = s.keys(p.fields)
	return p
}

// of returns the columns of a batch of the table's rows.
func (p *projection) of(batch arrow.RecordBatch) arrow.RecordBatch {
	columns := make([]arrow.Array, p.fields.NumFields())
	for i, f := range p.fields.Fields() {
		columns[i] = batch.Column(batch.Schema().FieldIndices(f.Name)[0])
	}
	return array.NewRecordBatch(p.fields, columns, batch.NumRows())
}

// sorting is rows to be sorted.
func (s *Series) sorting(rows sorted.Batches, keys []int) sorted.Input {
	return sorted.Input{Batches: rows, Keys: keys, Memory: s.memory / 8, Size: datafile.SizeOf}
}

// merge merges sources.
func (s *Series) merge(ctx context.Context, rule sorted.Rule, sources ...sorted.Source) sorted.Batches {
	return sorted.Merge(ctx, rule, s.memory/4, sources...)
}

// TimeRange returns the condition for rows from a time on, and before another, of a column
// of columns; "" is the first of a time's type. A zero time is no bound; nil is all rows.
func TimeRange(columns *arrow.Schema, name string, from, to time.Time) (*filter.Expr, error) {
	if from.IsZero() && to.IsZero() {
		return nil, nil
	}
	at := slices.IndexFunc(columns.Fields(), func(f arrow.Field) bool {
		isTime := slices.Contains([]arrow.Type{arrow.TIMESTAMP, arrow.DATE32, arrow.DATE64}, f.Type.ID())
		return isTime && (name == "" || name == f.Name)
	})
	if at < 0 {
		return nil, schema.Errorf(name, "the table has no timestamp or date column of this name for the time range")
	}
	var parts []*filter.Expr
	var err error
	add := func(op string, t time.Time) {
		if !t.IsZero() {
			e, failed := filter.Compare(columns.Field(at), op, filter.TimeText(t))
			parts, err = append(parts, e), errors.Join(err, failed)
		}
	}
	add(">=", from)
	add("<", to)
	if err != nil {
		return nil, err
	}
	return filter.And(parts...), nil
}
