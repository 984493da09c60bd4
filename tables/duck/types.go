//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/extensions"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sqlquote"
)

// column is a column of a view.
type column struct {
	id   string // Iceberg's
	name string
	sql  string // DuckDB's type
}

func columnsOf(m *tables.ScanPlan) ([]column, error) {
	known := map[string]string{}
	var all []column
	for i, f := range m.Schema.Fields() {
		key := strings.ToLower(f.Name)
		if was, ok := known[key]; ok {
			return nil, fmt.Errorf("columns %q and %q differ only by the case of their letters, and SQL cannot tell them apart", was, f.Name)
		}
		known[key] = f.Name
		stored := m.Stored.Field(i)
		id, ok := stored.Metadata.GetValue("PARQUET:field_id")
		if !ok {
			return nil, fmt.Errorf("column %q has no id", f.Name)
		}
		all = append(all, column{id, f.Name, sqlType(f.Type, stored.Type)})
	}
	return all, nil
}

// sqlTypes are DuckDB's types for those without parameters that matter there.
var sqlTypes = map[arrow.Type]string{
	arrow.NULL: "BOOLEAN", arrow.BOOL: "BOOLEAN",
	arrow.INT8: "TINYINT", arrow.INT16: "SMALLINT", arrow.INT32: "INTEGER", arrow.INT64: "BIGINT", arrow.DURATION: "BIGINT",
	arrow.UINT8: "UTINYINT", arrow.UINT16: "USMALLINT", arrow.UINT32: "UINTEGER", arrow.UINT64: "UBIGINT",
	arrow.FLOAT16: "FLOAT", arrow.FLOAT32: "FLOAT", arrow.FLOAT64: "DOUBLE",
	arrow.DATE32: "DATE", arrow.DATE64: "TIMESTAMP", arrow.TIME32: "TIME",
	arrow.STRING: "VARCHAR", arrow.LARGE_STRING: "VARCHAR", arrow.STRING_VIEW: "VARCHAR",
}

// sqlType returns DuckDB's type for a column that readers get as one type, and
// that the files have as another. Where DuckDB lacks the first, it is the second.
func sqlType(t, stored arrow.DataType) string {
	if name := sqlTypes[t.ID()]; name != "" {
		return name
	}
	switch t := t.(type) {
	case *arrow.Time64Type:
		if t.Unit == arrow.Nanosecond {
			return "BIGINT"
		}
		return "TIME"
	case *arrow.TimestampType:
		if t.TimeZone != "" {
			return "TIMESTAMPTZ"
		}
		return [...]string{arrow.Second: "TIMESTAMP_S", arrow.Millisecond: "TIMESTAMP_MS", arrow.Microsecond: "TIMESTAMP", arrow.Nanosecond: "TIMESTAMP_NS"}[t.Unit]
	case arrow.DecimalType:
		return fmt.Sprintf("DECIMAL(%d, %d)", t.GetPrecision(), t.GetScale())
	case *extensions.UUIDType:
		if arrow.TypeEqual(t, stored) {
			return "UUID"
		}
		return "BLOB"
	case arrow.ExtensionType:
		return sqlType(t.StorageType(), stored)
	case *arrow.MapType:
		k := stored.(*arrow.MapType)
		return "MAP(" + sqlType(t.KeyType(), k.KeyType()) + ", " + sqlType(t.ItemType(), k.ItemType()) + ")"
	case arrow.ListLikeType:
		return sqlType(t.Elem(), stored.(arrow.ListLikeType).Elem()) + "[]"
	case *arrow.StructType:
		fields := make([]string, t.NumFields())
		for i, f := range t.Fields() {
			fields[i] = sqlquote.Name(f.Name) + " " + sqlType(f.Type, stored.(*arrow.StructType).Field(i).Type)
		}
		return "STRUCT(" + strings.Join(fields, ", ") + ")"
	}
	return "BLOB"
}

// withoutZones takes the zones from a plan's columns of times in nanoseconds, of
// which DuckDB has none with one. It reports whether there are any.
func withoutZones(m *tables.ScanPlan) bool {
	stored, got := m.Stored.Fields(), m.Schema.Fields()
	any := false
	for i := range stored {
		if t, ok := got[i].Type.(*arrow.TimestampType); ok && t.Unit == arrow.Nanosecond && t.TimeZone != "" {
			any = true
			got[i].Type = &arrow.TimestampType{Unit: arrow.Nanosecond}
			stored[i].Type = got[i].Type
		}
	}
	m.Stored, m.Schema = arrow.NewSchema(stored, nil), arrow.NewSchema(got, nil)
	return any
}
