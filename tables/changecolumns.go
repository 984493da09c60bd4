package tables

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// checkColumns returns an error if applying the row changes to a copy of d.from would not produce d.to. For example,
// the copy may lack a column whose values are in d.from's files, a column may have the name of an earlier column, or a
// column's type may be too narrow for the copy's values.
func (d *difference) checkColumns() error {
	fromVersion, toVersion := d.from.version(), d.to.version()
	isBackward := d.to.isPinned() && toVersion <= fromVersion
	for _, v := range []*view{d.from, d.to} {
		restores := strings.Fields(v.t.Metadata().Properties()[columnsRestoredProperty])
		for i, text := range restores {
			restoreVersion, err := strconv.ParseInt(text, 10, 64)
			isTruncated := i == 0 && len(restores) >= definition.MaxRecords // older restores may no longer be recorded
			if err == nil && Version(restoreVersion) > fromVersion && (isBackward || Version(restoreVersion) <= toVersion || isTruncated) {
				return errors.New("a restore brought back dropped columns")
			}
		}
		replacements, err := definition.Replacements(v.t.Metadata())
		if err != nil {
			return err
		}
		for i, r := range replacements {
			isTruncated := i == 0 && len(replacements) >= definition.MaxRecords // older ones may no longer be recorded
			if at := Version(r.Version); at > min(fromVersion, toVersion) && (isTruncated || !r.Restore && at <= max(fromVersion, toVersion)) {
				return errors.New("the columns were replaced")
			}
		}
	}
	from, to, latest := d.from.def.Columns, d.to.def.Columns, d.from.t.Metadata().CurrentSchema()
	toFields, err := iceberg.IndexByID(to)
	names, namesErr := iceberg.IndexNameByID(to)
	if err := errors.Join(err, namesErr); err != nil {
		return err
	}
	hasCommon := false
	for _, id := range slices.Sorted(maps.Keys(toFields)) {
		f, exists := from.FindFieldByID(id)
		// Other programs can change columns without a new version, so a copy of d.from may lack columns that d.from has.
		_, isKept := latest.FindFieldByID(id)
		if isBackward && !(exists && isKept) {
			return fmt.Errorf("column %q was dropped after version %d", names[id], toVersion)
		}
		earlierSchemas := []*iceberg.Schema{from}
		if !exists { // a column that existed only between the versions may have had this name
			earlierSchemas = append(earlierSchemas, d.to.t.Metadata().Schemas()...)
		}
		for _, s := range earlierSchemas {
			if other, ok := s.FindFieldByName(names[id]); ok && other.ID != id && d.from.hasNonNullColumn(other.ID) {
				return fmt.Errorf("column %q has the name of an earlier column", names[id])
			}
		}
		if !exists {
			continue
		}
		hasCommon = true
		oldType, err := table.TypeToArrowType(f.Type, false, false)
		newType, newErr := table.TypeToArrowType(toFields[id].Type, false, false)
		oldLogical, newLogical := d.from.columnType(id), d.to.columnType(id)
		switch {
		case err != nil || newErr != nil:
			return errors.Join(err, newErr)
		case toFields[id].Required && !f.Required:
			return fmt.Errorf("column %q became required", names[id])
		case !arrow.TypeEqual(oldType, newType) && schema.CanPromote(newType, oldType), oldLogical != nil && newLogical != nil && schema.CanWiden(newLogical, oldLogical):
			return fmt.Errorf("column %q has a narrower type than before", names[id])
		}
	}
	if !hasCommon {
		return errors.New("the columns were replaced")
	}
	return nil
}

// columnType returns the type that readers see for the column with the given ID, or nil if the state lacks it.
func (v *view) columnType(id int) arrow.DataType {
	if i := slices.IndexFunc(v.def.Columns.Fields(), func(f iceberg.NestedField) bool { return f.ID == id }); i >= 0 {
		return v.def.Logical.Field(i).Type
	}
	return nil
}

// hasNonNullColumn reports whether the state has a field with the given ID, unless the field is a column of type null.
func (v *view) hasNonNullColumn(id int) bool {
	_, exists := v.def.Columns.FindFieldByID(id)
	t := v.columnType(id)
	return exists && (t == nil || t.ID() != arrow.NULL)
}

func (v *view) version() Version {
	if v.snapshot != nil {
		return *v.source.oldVersion
	}
	return versionOf(v.t.Metadata())
}

// isPinned reports whether v is not the table's current state.
func (v *view) isPinned() bool { return v.snapshot != nil || v.source.snapshot != "" }
