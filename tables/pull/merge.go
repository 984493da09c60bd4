package pull

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// merge writes the files of a new version with the rows of base and added. It reuses a file of base if no row of added
// lies in the file's time range, unless the file is small and precedes new rows.
func (n *Node) merge(ctx context.Context, base version, added frame) (*manifest, error) {
	if base.manifest == nil { // a new table
		columns := added.batch.Schema()
		base.manifest = &manifest{header: header{Time: columns.Field(added.time).Name}, schema: columns, time: added.time}
	}
	columns, err := joinColumns(base.manifest, added)
	if err != nil {
		return nil, err
	}
	next := &manifest{header: header{Time: base.Time}, schema: columns, time: base.time}
	converted, err := schema.ConvertNamed(added.batch, columns)
	if err != nil {
		return nil, err
	}
	defer converted.Release()
	// New rows between two files go to a new file. But if the file before them is rewritten
	// anyway or is small, its replacement gets these rows.
	start, times := 0, converted.Column(next.time)
	for i := -1; i < len(base.files); i++ {
		end := times.Len() // end of the new rows before the next file
		if i+1 < len(base.files) {
			end = indexFrom(times, base.files[i+1].Min)
		}
		if i >= 0 && start == end { // no new rows before the next file
			next.files = append(next.files, base.files[i])
			continue
		}
		var files []dataFile
		rows := converted.NewSlice(int64(start), int64(end))
		if i >= 0 && start < end && (base.files[i].Rows < n.extendBelow || series.TimeAt(times, start) <= base.files[i].Max) {
			files, err = n.rewrite(ctx, next, base.record, base.files[i], rows, added.batch.Schema())
		} else {
			if i >= 0 {
				next.files = append(next.files, base.files[i])
			}
			files, err = n.disk.writeRows(rows, next.time)
		}
		rows.Release()
		if err != nil {
			return nil, err
		}
		next.files, start = append(next.files, files...), end
	}
	return next, nil
}

// joinColumns returns the columns of m, followed by the columns that only added has. It returns an error
// if added lacks the table's time column, or has a column whose type cannot be widened to the table's.
func joinColumns(m *manifest, added frame) (*arrow.Schema, error) {
	s := added.batch.Schema()
	if !s.HasField(m.Time) {
		return nil, &tables.SchemaError{Column: m.Time, Err: errors.New("the rows lack this column, which is the table's time column")}
	}
	if s.Field(added.time).Name != m.Time {
		return nil, &tables.SchemaError{Column: m.Time, Err: fmt.Errorf("this is the table's time column, "+
			"but the column %q before it is a time column too: move %q to the front", s.Field(added.time).Name, m.Time)}
	}
	fields := m.schema.Fields()
	for _, f := range s.Fields() {
		indices := m.schema.FieldIndices(f.Name)
		if len(indices) == 0 {
			fields = append(fields, f)
			continue
		}
		if err := schema.CheckValues(f, fields[indices[0]]); err != nil {
			return nil, err
		}
		tableType := fields[indices[0]].Type
		if !schema.Alike(f.Type, tableType) && f.Type.ID() != arrow.NULL && (f.Name == m.Time || !schema.CanWiden(f.Type, tableType)) {
			return nil, schema.MismatchError(f.Name, f.Type, tableType, "")
		}
	}
	return arrow.NewSchema(fields, nil), nil
}

// rewrite merges the new rows, added, into the rows of file f and writes the result as new files.
// saved is the schema of the rows that were passed to Save, without the columns that they lack.
func (n *Node) rewrite(ctx context.Context, next *manifest, r record, f dataFile, added arrow.RecordBatch, saved *arrow.Schema) ([]dataFile, error) {
	var parts []arrow.RecordBatch
	defer func() { take.Release(parts) }()
	for b, err := range n.rows(ctx, next, r, f, allTimes) {
		if err != nil {
			return nil, err
		}
		parts = append(parts, b)
	}
	added.Retain()
	parts = append(parts, added)
	merged, err := sorted.Block(parts, []int{next.time})
	if err != nil {
		return nil, err
	}
	defer merged.Release()
	newer, older := pickRows(merged.Column(next.time))
	columns := make([]arrow.Array, next.schema.NumFields())
	for i, field := range next.schema.Fields() {
		pick := older
		if saved.HasField(field.Name) {
			pick = newer
		}
		columns[i], err = take.Rows(merged.Column(i), pick)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", field.Name, err)
		}
		defer columns[i].Release()
	}
	b := array.NewRecordBatch(next.schema, columns, int64(len(newer)))
	defer b.Release()
	return n.disk.writeRows(b, next.time)
}

// pickRows returns two row indexes for each distinct time. If a time occurs twice, older has the first
// row, which is from the old file, and newer has the second, which is new. If it occurs once, both have
// the same row. Columns that Save did not get must come from older, because they are null in new rows.
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
