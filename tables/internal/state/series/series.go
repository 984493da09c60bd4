// Package series reads and writes tables whose rows are ordered by time. It merges files with the tail (recent appends
// that are not in files yet), removes duplicates by the table's rule, divides files by time periods, and finds the last
// rows.
package series

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// Series is a version of a table whose rows have an order.
type Series struct {
	*definition.Order
	def     *definition.Definition
	table   *table.Table
	version []table.ScanOption // selects the version; nil means the newest
	memory  int64              // in bytes; merges and sorts use a fraction of it
}

// New returns a table as a Series. d must have an order. version can select an older version.
func New(d *definition.Definition, t *table.Table, memory int64, version ...table.ScanOption) *Series {
	return &Series{d.Order, d, t, version, memory}
}

// ForTable returns a table's newest version as a Series, or nil if the table has no order.
func ForTable(t *table.Table, memory int64) (*Series, error) {
	d, err := definition.FromMetadata(t.Metadata())
	if err != nil || d.Order == nil {
		return nil, err
	}
	return New(d, t, memory), nil
}

// withLineage returns a copy of s that also reads and writes Iceberg's lineage columns, if the table has them. Each
// operation that moves rows to other files must use it.
func (s *Series) withLineage() *Series {
	moving := *s
	moving.def = s.def.WithLineage(s.table.Metadata().Version())
	return &moving
}

// Check returns an error if rows have a null in a column by which o orders rows. If o is nil, it accepts all rows.
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
			return schema.Errorf(name, "row %d of a batch is null (one of %d nulls), but the column orders the table's rows: set a value in every row", row, column.NullN())
		}
	}
	return nil
}

func (s *Series) keys(columns *arrow.Schema) []int {
	indices := make([]int, len(s.Names))
	for i, name := range s.Names {
		indices[i] = columns.FieldIndices(name)[0]
	}
	return indices
}

// projection says which columns to read and how. The columns are in the table's order.
type projection struct {
	fields     *arrow.Schema
	keys       []int // indices in fields of the columns that order the rows
	names      []string
	readAhead  bool  // decode row groups ahead of the consumer
	neededRows int64 // number of rows that the consumer may need; 0 means no limit

	recycle bool // reuse the memory of released batches
}

func (s *Series) project(names []string) *projection {
	p := &projection{fields: s.def.Stored, names: names}
	if names != nil {
		p.fields = schema.Select(p.fields, names)
	}
	p.keys = s.keys(p.fields)
	return p
}

func (s *Series) sortInput(rows batches.Seq, keys []int) sorted.Input {
	return sorted.Input{Batches: rows, Keys: keys, Memory: s.memory / 8, Size: datafile.SizeOf}
}

func (s *Series) merge(ctx context.Context, rule sorted.Rule, sources ...sorted.Source) batches.Seq {
	return sorted.Merge(ctx, rule, s.memory/4, sources...)
}

// TimeRange returns a condition for rows with from ≤ time < to. A zero time means no bound; without bounds, TimeRange
// returns nil. name is the time column; "" means the first column of a time type.
func TimeRange(columns *arrow.Schema, name string, from, to time.Time) (*filter.Expr, error) {
	if from.IsZero() && to.IsZero() {
		return nil, nil
	}
	index := slices.IndexFunc(columns.Fields(), func(f arrow.Field) bool {
		isTime := slices.Contains([]arrow.Type{arrow.TIMESTAMP, arrow.DATE32, arrow.DATE64}, f.Type.ID())
		return isTime && (name == "" || name == f.Name)
	})
	if index < 0 {
		return nil, schema.Errorf(name, "a time range needs a timestamp or date column, and the table has none with this name")
	}
	var conditions []*filter.Expr
	var err error
	add := func(op string, t time.Time) {
		if !t.IsZero() {
			e, compareErr := filter.Compare(columns.Field(index), op, filter.TimeText(t))
			conditions, err = append(conditions, e), errors.Join(err, compareErr)
		}
	}
	add(">=", from)
	add("<", to)
	if err != nil {
		return nil, err
	}
	return filter.And(conditions...), nil
}
