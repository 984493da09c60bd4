package datafile

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/parquet"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestUnreadable writes extreme values of each type to files. It checks which types of a table's columns FieldsOf accepts
// for a file, that the values can then be read, and that no pair of types ends the process.
func TestUnreadable(t *testing.T) {
	decimal := func(precision, scale int32) arrow.DataType {
		return &arrow.Decimal128Type{Precision: precision, Scale: scale}
	}
	times := func(unit arrow.TimeUnit, zone string) arrow.DataType {
		return &arrow.TimestampType{Unit: unit, TimeZone: zone}
	}
	p, f := arrow.PrimitiveTypes, arrow.FixedWidthTypes
	text := `"0123456789abcdef"`
	files := []struct {
		arrow.DataType
		value, readAs string // a JSON value, and the table's types that can represent all values
	}{
		{f.Boolean, "true", "bool"},
		{p.Int8, "-128", "int32; int64; float64"},
		{p.Int16, "-32768", "int32; int64; float64"},
		{p.Int32, "-2147483648", "int32; int64; float64; date32"},
		{p.Int64, "-9223372036854775807", "int64; time64[us]; timestamp[us]; timestamp[us, tz=UTC]; timestamp[ns]"},
		{p.Uint8, "255", "int32; int64; float64"},
		{p.Uint16, "65535", "int32; int64; float64"},
		{p.Uint32, "4294967295", "int64; float64"},
		{p.Uint64, "18446744073709551615", ""},
		{f.Float16, "65504", "float32; float64"},
		{p.Float32, "3e38", "float32; float64"},
		{p.Float64, "1e300", "float64"},
		{arrow.BinaryTypes.String, text, "utf8"},
		{arrow.BinaryTypes.Binary, `"MDEyMzQ1Njc4OWFiY2RlZg=="`, "utf8; binary; fixed_size_binary[16]; extension<arrow.uuid>"},
		{&arrow.FixedSizeBinaryType{ByteWidth: 16}, `"MDEyMzQ1Njc4OWFiY2RlZg=="`, "binary; fixed_size_binary[16]; extension<arrow.uuid>"},
		{&arrow.FixedSizeBinaryType{ByteWidth: 8}, `"MDEyMzQ1Njc="`, "binary"},
		{decimal(9, 2), `"9999999.99"`, "decimal(9, 2); decimal(18, 2); decimal(38, 2)"},
		{decimal(18, 2), `"9999999999999999.99"`, "decimal(18, 2); decimal(38, 2)"},
		{decimal(18, 4), `"99999999999999.9999"`, "decimal(18, 4)"},
		{decimal(38, 2), `"999999999999999999999999999999999999.99"`, "decimal(38, 2)"},
		{p.Date32, `"2026-01-01"`, "date32; timestamp[us]; timestamp[us, tz=UTC]; timestamp[ns]"},
		{f.Time32ms, `"23:59:59.999"`, "time64[us]"},
		{f.Time64us, `"23:59:59.999999"`, "time64[us]"},
		{f.Time64ns, `"23:59:59.999999999"`, "int64"},
		{times(arrow.Millisecond, ""), `"2026-01-01 00:00:00.001"`, "timestamp[us]; timestamp[us, tz=UTC]; timestamp[ns]"},
		{times(arrow.Microsecond, ""), `"2026-01-01 00:00:00.000001"`, "timestamp[us]; timestamp[us, tz=UTC]; timestamp[ns]"},
		{times(arrow.Microsecond, "UTC"), `"2026-01-01T00:00:00.000001Z"`, "timestamp[us]; timestamp[us, tz=UTC]; timestamp[ns]"},
		{times(arrow.Nanosecond, ""), `"2026-01-01 00:00:00.000000001"`, "timestamp[ns]"},
		{arrow.ListOf(p.Int64), "[9223372036854775807]", "list<item: int64, nullable>"},
		{arrow.MapOf(arrow.BinaryTypes.String, p.Int64), `[{"key": "a", "value": 9223372036854775807}]`, "map<utf8, int64, items_nullable>"},
		{arrow.StructOf(withID(2, arrow.Field{Name: "x", Type: p.Int64})), `{"x": 9223372036854775807}`, "struct<x: int64 nullable>; struct<x: int32 nullable>"},
		{arrow.Null, "null", ""},
	}
	tableTypes := []arrow.DataType{
		f.Boolean, p.Int32, p.Int64, p.Float32, p.Float64, arrow.BinaryTypes.String, arrow.BinaryTypes.Binary, &arrow.FixedSizeBinaryType{ByteWidth: 16},
		extensions.NewUUIDType(), decimal(9, 2), decimal(18, 2), decimal(18, 4), decimal(38, 2), p.Date32, f.Time64us,
		times(arrow.Microsecond, ""), times(arrow.Microsecond, "UTC"), times(arrow.Nanosecond, ""),
		arrow.ListOf(p.Int32), arrow.ListOf(p.Int64), arrow.MapOf(arrow.BinaryTypes.String, p.Int32), arrow.MapOf(arrow.BinaryTypes.String, p.Int64),
		arrow.StructOf(withID(2, arrow.Field{Name: "x", Type: p.Int32})), arrow.StructOf(withID(2, arrow.Field{Name: "x", Type: p.Int64})), arrow.StructOf(withID(3, arrow.Field{Name: "x", Type: p.Int32})),
	}
	for _, from := range files {
		content := encodeFile(t, fmt.Sprintf(`[{"c": %s}]`, from.value), withID(1, arrow.Field{Name: "c", Type: from.DataType}))
		var readable []string
		for _, to := range tableTypes {
			scan := &Scan{Columns: []Column{column(1, "c", to, to)}, Rows: 10, Workers: 1}
			scan.Open = func(string) (parquet.ReaderAtSeeker, error) { return bytes.NewReader(content), nil }
			fields := must.Get(scan.FieldsOf(t.Context(), "a file"))(t)
			rows, err := scan.readAll(t.Context(), content) // must not panic, even if it cannot be right
			if len(fields.Unreadable) > 0 {
				continue
			}
			readable = append(readable, to.String())
			if err != nil {
				t.Errorf("%s as %s: got the rows %s, error %v", from.DataType, to, rows, err)
			}
		}
		if got := strings.Join(readable, "; "); got != from.readAs && from.DataType != arrow.Null || from.DataType == arrow.Null && len(readable) != len(tableTypes) {
			t.Errorf("%s can be read as %s, want %s", from.DataType, got, from.readAs)
		}
	}
}
