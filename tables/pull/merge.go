package pull

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/series"
	"github.com/go-partd/partd/tables/internal/sorted"
	"github.com/go-partd/partd/tables/internal/take"
)

// merge writes the union of a version and a frame. It keeps files without times of the
// frame, except small ones that it extends.
func (n *Node) merge(ctx context.Context, base version, put frame) (*manifest, error) {
	next := &manifest{time: put.time, schema: put.batch.Schema()}
	if base.manifest == nil {
		next.Time = next.schema.Field(put.time).Name
		files, err := n.write(ctx, put.batch, put.time)
		next.files = files
		return next, err
	}
	columns, err := joinColumns(base.manifest, put)
	if err != nil {
		return nil, err
	}
	next.Time, next.time, next.schema = base.Time, base.time, columns
	of := map[string]bool{}
	for _, f := range put.batch.Schema().Fields() {
		of[f.Name] = true
	}
	whole, err := schema.ConvertNamed(put.batch, columns)
	if err != nil {
		return nil, err
	}
	defer whole.Release()
	// Rows of the frame before a file's first time go to a new file, unless the preceding
	// file is rewritten anyway or is small.
	at, times := 0, whole.Column(next.time)
	take := func(end int) arrow.RecordBatch {
		b := whole.NewSlice(int64(at), int64(end))
		at = end
		return b
	}
	for i := -1; i < len(base.files); i++ {
		end := times.Len() // end of the rows before the next file
		if i+1 < len(base.files) {
			end = firstFrom(times, base.files[i+1].Min)
		}
		var files []dataFile
		if i >= 0 {
			f := base.files[i]
			within := at < end && series.TimeAt(times, at) <= f.Max
			if at == end || !within && f.Rows >= n.small {
				next.files = append(next.files, f)
			} else {
				b := take(end)
				files, err = n.rewrite(ctx, next, base.record, f, b, of)
				b.Release()
			}
		}
		if err == nil && at < end {
			b := take(end)
			files, err = n.write(ctx, b, next.time)
			b.Release()
		}
		if err != nil {
			return nil, err
		}
		next.files = append(next.files, files...)
	}
	return next, nil
}

// joinColumns returns the columns of a version, followed by new columns of the frame.
func joinColumns(m *manifest, put frame) (*arrow.Schema, error) {
	s := put.batch.Schema()
	if !s.HasField(m.Time) {
		return nil, &tables.SchemaError{Column: m.Time, Err: errors.New("the frame lacks this column, which is the table's time column")}
	}
	if s.Field(put.time).Name != m.Time {
		return nil, &tables.SchemaError{Column: m.Time, Err: fmt.Errorf("it is the table's time column, but the frame has another time column, %q, before it: move it to the front", s.Field(put.time).Name)}
	}
	fields := m.schema.Fields()
	for _, f := range s.Fields() {
		at := m.schema.FieldIndices(f.Name)
		if len(at) == 0 {
			fields = append(fields, f)
			continue
		}
		if err := schema.CheckValues(f, fields[at[0]]); err != nil {
			return nil, err
		}
		if is := fields[at[0]].Type; !schema.Alike(f.Type, is) && f.Type.ID() != arrow.NULL && (f.Name == m.Time || !schema.CanWiden(f.Type, is)) {
			return nil, &tables.SchemaError{Column: f.Name, Err: fmt.Errorf("it has type %s, and the table has %s", f.Type, is)}
		}
	}
	return arrow.NewSchema(fields, nil), nil
}

// rewrite writes a file's rows merged with new rows. of holds the names of the columns in
// the frame.
func (n *Node) rewrite(ctx context.Context, next *manifest, r record, f dataFile, put arrow.RecordBatch, of map[string]bool) ([]dataFile, error) {
	var parts []arrow.RecordBatch
	defer func() { take.Release(parts) }()
	for b, err := range n.rows(ctx, next, r, f, math.MinInt64, math.MaxInt64) {
		if err != nil {
			return nil, err
		}
		parts = append(parts, b)
	}
	put.Retain()
	parts = append(parts, put)
	both, err := sorted.Block(parts, []int{next.time})
	if err != nil {
		return nil, err
	}
	defer both.Release()
	newer, older := pickRows(both.Column(next.time))
	columns := make([]arrow.Array, next.schema.NumFields())
	defer func() {
		for _, c := range columns {
			if c != nil {
				c.Release()
			}
		}
	}()
	for i, field := range next.schema.Fields() {
		pick := older
		if of[field.Name] {
			pick = newer
		}
		if columns[i], err = take.Rows(both.Column(i), pick); err != nil {
			return nil, fmt.Errorf("column %q: %w", field.Name, err)
		}
	}
	b := array.NewRecordBatch(next.schema, columns, int64(len(newer)))
	defer b.Release()
	return n.write(ctx, b, next.time)
}

// pickRows returns, for each distinct time, the row to take the frame's columns from (newer)
// and the row for all other columns (older), because those are null in new rows. If a
// time occurs twice, the second row is new.
func pickRows(times arrow.Array) (newer, older []int) {
	for i := 0; i < times.Len(); i++ {
		older = append(older, i)
		if i+1 < times.Len() && series.TimeAt(times, i) == series.TimeAt(times, i+1) {
			i++
		}
		newer = append(newer, i)
	}
	return newer, older
}
