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

// compareColumns returns an error if the changes cannot turn a copy of d.from into d.to. For example, the copy lacks
// a column, although d.from's files have its values; a column has the name of an earlier column; or a column cannot hold
// the copy's values.
func (d *difference) compareColumns() error {
	first, last := d.from.version(), d.to.version()
	isBackward := d.to.isPinned() && last <= first
	for _, v := range []*view{d.from, d.to} {
		restores := strings.Fields(v.t.Metadata().Properties()[columnsRestoredProperty])
		for i, text := range restores {
			restored, err := strconv.ParseInt(text, 10, 64)
			isForgotten := i == 0 && len(restores) >= definition.MaxRecords // an earlier one may be
			if err == nil && Version(restored) > first && (isBackward || Version(restored) <= last || isForgotten) {
				return errors.New("a restore brought back dropped columns")
			}
		}
		replacements, err := definition.Replacements(v.t.Metadata())
		if err != nil {
			return err
		}
		for i, r := range replacements {
			isForgotten := i == 0 && len(replacements) >= definition.MaxRecords // an earlier one may be
			if at := Version(r.Version); at > min(first, last) && (isForgotten || !r.Restore && at <= max(first, last)) {
				return errors.New("the columns were replaced")
			}
		}
	}
	from, to, latest := d.from.def.Columns, d.to.def.Columns, d.from.t.Metadata().CurrentSchema()
	fields, err := iceberg.IndexByID(to)
	names, namesErr := iceberg.IndexNameByID(to)
	if err := errors.Join(err, namesErr); err != nil {
		return err
	}
	haveCommon := false
	for _, id := range slices.Sorted(maps.Keys(fields)) {
		f, exists := from.FindFieldByID(id)
		// other programs change columns without a new version, so copies of d.from can lack columns of d.from
		_, isKept := latest.FindFieldByID(id)
		if isBackward && !(exists && isKept) {
			return fmt.Errorf("column %q was dropped after this version", names[id])
		}
		earlier := []*iceberg.Schema{from}
		if !exists { // between two versions, another column can have had the name
			earlier = append(earlier, d.to.t.Metadata().Schemas()...)
		}
		for _, s := range earlier {
			if other, ok := s.FindFieldByName(names[id]); ok && other.ID != id && d.from.hasValues(other.ID) {
				return fmt.Errorf("column %q has the name of an earlier column", names[id])
			}
		}
		if !exists {
			continue
		}
		haveCommon = true
		oldType, err := table.TypeToArrowType(f.Type, false, false)
		newType, err2 := table.TypeToArrowType(fields[id].Type, false, false)
		oldLogical, newLogical := d.from.columnType(id), d.to.columnType(id)
		switch {
		case err != nil || err2 != nil:
			return errors.Join(err, err2)
		case fields[id].Required && !f.Required:
			return fmt.Errorf("column %q became required", names[id])
		case !arrow.TypeEqual(oldType, newType) && schema.CanPromote(newType, oldType), oldLogical != nil && newLogical != nil && schema.CanWiden(newLogical, oldLogical):
			return fmt.Errorf("column %q has a narrower type than before", names[id])
		}
	}
	if !haveCommon {
		return errors.New("the columns were replaced")
	}
	return nil
}

// columnType returns the type of a column in the rows that readers get, or nil if the state has no such column.
func (v *view) columnType(id int) arrow.DataType {
	if i := slices.IndexFunc(v.def.Columns.Fields(), func(f iceberg.NestedField) bool { return f.ID == id }); i >= 0 {
		return v.def.Logical.Field(i).Type
	}
	return nil
}

// hasValues reports whether the state has a field with the given ID that is not a column of nulls.
func (v *view) hasValues(id int) bool {
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
