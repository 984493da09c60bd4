package tables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/parallel"
	"github.com/go-partd/partd/tables/internal/schema"
)

// compareColumns sets d.added. It returns an error if the changes cannot turn a copy of d.from into d.to: a column has
// the name of another column that the copy can have, cannot hold the copy's values, or can be missing in the copy.
func (d *difference) compareColumns() error {
	from, to := d.from.def.Columns, d.to.def.Columns
	fields, err := iceberg.IndexByID(to)
	names, namesErr := iceberg.IndexNameByID(to)
	parents, parentsErr := iceberg.IndexParents(to)
	if err := errors.Join(err, namesErr, parentsErr); err != nil {
		return err
	}
	d.added = map[int]bool{}
	for _, id := range slices.Sorted(maps.Keys(fields)) {
		f, exists := from.FindFieldByID(id)
		earlier := []*iceberg.Schema{from}
		if !exists { // Between two versions, the name can have belonged to another column, which then was dropped.
			d.added[id] = true
			earlier = append(earlier, d.from.t.Metadata().Schemas()...)
		}
		for _, s := range earlier {
			if other, ok := s.FindFieldByName(names[id]); ok && other.ID != id && d.from.hasValues(other.ID) {
				return fmt.Errorf("column %q has the name of an earlier column", names[id])
			}
		}
		parent, nested := parents[id]
		newType, err := table.TypeToArrowType(fields[id].Type, false, false)
		oldType, oldErr := newType, error(nil)
		if exists {
			oldType, oldErr = table.TypeToArrowType(f.Type, false, false)
		}
		switch {
		case err != nil || oldErr != nil:
			return errors.Join(err, oldErr)
		case fields[id].Required && exists && !f.Required, fields[id].Required && !exists && fields[id].InitialDefault == nil && !(nested && d.added[parent]):
			return fmt.Errorf("column %q became required", names[id])
		case !arrow.TypeEqual(oldType, newType) && schema.CanPromote(newType, oldType), exists && !nested && schema.CanWiden(d.to.columnType(id), d.from.columnType(id)):
			return fmt.Errorf("column %q has a narrower type than before", names[id])
		}
		for _, s := range d.from.laterSchemas() {
			if _, ok := s.FindFieldByID(id); exists && !ok {
				return fmt.Errorf("column %q was dropped after version %d without a new version, and restored", names[id], d.from.snapshot.SequenceNumber)
			}
		}
	}
	if len(d.added) == len(fields) {
		return errors.New("the columns were replaced")
	}
	return nil
}

// columnType returns the type of a column in the rows that readers get, or nil if the state lacks the column.
func (v *view) columnType(id int) arrow.DataType {
	if i := slices.IndexFunc(v.def.Columns.Fields(), func(f iceberg.NestedField) bool { return f.ID == id }); i >= 0 {
		return v.def.Logical.Field(i).Type
	}
	return nil
}

// hasValues reports whether the state has a field with an ID, which is not a column of nulls.
func (v *view) hasValues(id int) bool {
	_, exists := v.def.Columns.FindFieldByID(id)
	t := v.columnType(id)
	return exists && (t == nil || t.ID() != arrow.NULL)
}

// laterSchemas returns the columns that the table last had before the next version, or has now. Column changes alone
// make no version.
func (v *view) laterSchemas() (schemas []*iceberg.Schema) {
	if v.snapshot == nil {
		return nil // A bucket's snapshot has the columns of its moment.
	}
	meta := v.t.Metadata()
	if meta.CurrentSnapshot().SnapshotID == v.snapshot.SnapshotID {
		schemas = append(schemas, meta.CurrentSchema())
	}
	for _, s := range meta.Snapshots() {
		if s.ParentSnapshotID == nil || *s.ParentSnapshotID != v.snapshot.SnapshotID {
			continue
		}
		id := s.SchemaID
		if s.Summary != nil {
			if before, err := strconv.Atoi(s.Summary.Properties[columnsBeforeProperty]); err == nil {
				id = &before
			}
		}
		i := slices.IndexFunc(meta.Schemas(), func(columns *iceberg.Schema) bool { return id != nil && columns.ID == *id })
		if i >= 0 {
			schemas = append(schemas, meta.Schemas()[i])
		}
	}
	return schemas
}

// filesWithAdded returns the paths of tasks' files that have values for the fields in d.added.
func (d *difference) filesWithAdded(ctx context.Context, tasks []table.FileScanTask) (map[string]bool, error) {
	paths, mu := map[string]bool{}, sync.Mutex{}
	if len(d.added) == 0 {
		return paths, nil
	}
	return paths, parallel.Each(ctx, slices.Values(tasks), 0, func(ctx context.Context, task table.FileScanTask) error {
		has, err := datafile.HasFields(ctx, d.from.t, task, d.added)
		mu.Lock()
		defer mu.Unlock()
		paths[task.File.FilePath()] = has
		return err
	})
}
