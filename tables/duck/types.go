//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

func columnsOf(plan *tables.ScanPlan) ([]column, error) {
	if plan.Schema.NumFields() == 0 {
		return nil, errors.New("the table has no columns, so SQL cannot use it: add one first")
	}
	if err := checkNames(plan.Schema); err != nil {
		return nil, err
	}
	var columns []column
	for i, f := range plan.Schema.Fields() {
		stored := plan.Stored.Field(i)
		id, ok := stored.Metadata.GetValue("PARQUET:field_id")
		if !ok {
			return nil, fmt.Errorf("column %q has no Iceberg field id", f.Name)
		}
		if expected, err := schema.StoredType(f.Type); !schema.Alike(f.Type, stored.Type) && (err != nil || !schema.Alike(expected, stored.Type)) {
			return nil, fmt.Errorf("column %q has type %s, but is stored as %s: SQL cannot read this combination", f.Name, f.Type, stored.Type)
		}
		columns = append(columns, column{id, f.Name, sqlType(f.Type, stored.Type)})
	}
	return columns, nil
}

// checkNames returns an error if columns have names that SQL cannot distinguish.
func checkNames(columns *arrow.Schema) error {
	byName := map[string]string{}
	for _, name := range schema.Names(columns) {
		key := strings.ToLower(name)
		if other, ok := byName[key]; ok && other == name {
			return fmt.Errorf("two columns are named %q, so SQL cannot distinguish them: rename one of them", name)
		} else if ok {
			return fmt.Errorf("columns %q and %q differ only in case, so SQL cannot distinguish them: rename one of them", other, name)
		}
		byName[key] = name
	}
	return nil
}

// sqlType returns the DuckDB type for a column. t is the type for readers, and stored is the type in files.
// If DuckDB does not support t, sqlType uses stored.
func sqlType(t, stored arrow.DataType) string {
	row, fields := arrowtype.Of(t), arrowtype.Fields(t)
	types := make([]string, len(fields))
	for i, f := range fields {
		types[i] = sqlType(f.Type, arrowtype.Fields(stored)[i].Type)
	}
	switch {
	case row.SQL != "":
		return row.SQL
	case row.Kind == arrowtype.Time:
		if t.(*arrow.Time64Type).Unit == arrow.Nanosecond {
			return "BIGINT"
		}
		return "TIME"
	case row.Kind == arrowtype.Timestamp:
		t := t.(*arrow.TimestampType)
		if t.TimeZone != "" {
			return "TIMESTAMPTZ"
		}
		return [...]string{arrow.Second: "TIMESTAMP_S", arrow.Millisecond: "TIMESTAMP_MS", arrow.Microsecond: "TIMESTAMP", arrow.Nanosecond: "TIMESTAMP_NS"}[t.Unit]
	case row.Kind == arrowtype.Decimal:
		t := t.(arrow.DecimalType)
		return fmt.Sprintf("DECIMAL(%d, %d)", t.GetPrecision(), t.GetScale())
	case row.Kind == arrowtype.Extension:
		return sqlType(arrowtype.Inner(t), stored)
	case row.Kind == arrowtype.Map:
		return "MAP(" + strings.Join(types, ", ") + ")"
	case row.Kind == arrowtype.List:
		return types[0] + "[]"
	case row.Kind == arrowtype.Struct:
		for i, f := range fields {
			types[i] = sqltext.Name(f.Name) + " " + types[i]
		}
		return "STRUCT(" + strings.Join(types, ", ") + ")"
	}
	return "BLOB"
}

// removeZones removes the time zones of nanosecond times from a plan's columns, because DuckDB has no nanosecond type
// with a zone. It reports whether it removed any time zone.
func removeZones(plan *tables.ScanPlan) bool {
	old := plan.Schema
	plan.Stored = replaceZonedNanos(plan.Stored, &arrow.TimestampType{Unit: arrow.Nanosecond})
	plan.Schema = replaceZonedNanos(plan.Schema, &arrow.TimestampType{Unit: arrow.Nanosecond})
	return !plan.Schema.Equal(old)
}

func replaceZonedNanos(columns *arrow.Schema, replacement arrow.DataType) *arrow.Schema {
	replace := func(t arrow.DataType) arrow.DataType {
		if schema.IsZonedNanos(t) {
			return replacement
		}
		return t
	}
	fields := schema.MapTypes(columns.Fields(), func(t arrow.DataType) arrow.DataType { return schema.MapLeaves(t, replace) })
	return arrow.NewSchema(fields, nil)
}

// checkNanoseconds returns an error if SQL would truncate values in columns that the statement can name.
func (t *boundTable) checkNanoseconds(ctx context.Context) error {
	var names []string
	for i, f := range t.plan.Schema.Fields() {
		if schema.ContainsType(f.Type, schema.IsZonedNanos) && (t.allColumns || t.isNamed(t.columns[i])) {
			names = append(names, f.Name)
		}
	}
	if names == nil {
		return nil
	}
	rows, err := t.plan.Select(ctx, names, nil, 0, true)
	if err != nil {
		return err
	}
	defer rows.Release()
	to := replaceZonedNanos(rows.Schema(), arrow.FixedWidthTypes.Timestamp_us)
	for b, err := range batches.Each(rows, func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return schema.Convert(b, to) }) {
		if err != nil {
			return fmt.Errorf("table %v: %w: in SQL, times with a time zone have no nanoseconds, so put these rows without SQL", t, err)
		}
		b.Release()
	}
	return nil
}
