//go:build cgo

package duck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/go-partd/partd/internal/testutil/must"
)

func TestTypes(t *testing.T) {
	s := newStore(t, nil)
	list := arrow.ListOf(arrow.PrimitiveTypes.Uint32)
	types := []struct {
		put  arrow.DataType
		json string
		got  arrow.DataType // nil means the same type as put
		want string
	}{
		{arrow.FixedWidthTypes.Boolean, "true", nil, "true"},
		{arrow.PrimitiveTypes.Int8, "-3", nil, "-3"},
		{arrow.PrimitiveTypes.Int16, "-3", nil, "-3"},
		{arrow.PrimitiveTypes.Uint8, "200", nil, "200"},
		{arrow.PrimitiveTypes.Uint16, "60000", nil, "60000"},
		{arrow.PrimitiveTypes.Uint32, "4000000000", nil, "4000000000"},
		{arrow.PrimitiveTypes.Uint64, "18446744073709551615", nil, "18446744073709551615"},
		{arrow.FixedWidthTypes.Float16, "1.5", arrow.PrimitiveTypes.Float32, "1.5"},
		{arrow.PrimitiveTypes.Float32, "1.5", nil, "1.5"},
		{arrow.BinaryTypes.LargeString, `"x"`, arrow.BinaryTypes.String, "x"},
		{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, `"x"`, arrow.BinaryTypes.String, "x"},
		{arrow.BinaryTypes.Binary, `"AAE="`, nil, "AAE="},
		{&arrow.FixedSizeBinaryType{ByteWidth: 2}, `"AAE="`, arrow.BinaryTypes.Binary, "AAE="},
		{&arrow.Decimal128Type{Precision: 7, Scale: 2}, `"12.34"`, nil, "12.34"},
		{arrow.PrimitiveTypes.Date32, `"2023-01-31"`, nil, "2023-01-31"},
		{arrow.FixedWidthTypes.Time32ms, `"01:02:03.004"`, arrow.FixedWidthTypes.Time64us, "01:02:03.004000"},
		{arrow.FixedWidthTypes.Time64us, `"01:02:03.000004"`, nil, "01:02:03.000004"},
		{&arrow.TimestampType{Unit: arrow.Second}, `"2023-01-31 01:02:03"`, nil, "2023-01-31T01:02:03"},
		{&arrow.TimestampType{Unit: arrow.Millisecond}, `"2023-01-31 01:02:03.004"`, nil, "2023-01-31T01:02:03.004"},
		{&arrow.TimestampType{Unit: arrow.Nanosecond}, `"2023-01-31 01:02:03.123456789"`, nil, "2023-01-31T01:02:03.123456789"},
		{&arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, `"2023-01-31 01:02:03Z"`, nil, "2023-01-31T01:02:03Z"},
		{arrow.FixedWidthTypes.Duration_ms, "1500", arrow.PrimitiveTypes.Int64, "1500"},
		{list, "[1, 4000000000]", nil, "[1,4000000000]"},
		{arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Uint8, Nullable: true}), `{"a": 200}`, nil, `{"a":200}`},
		{arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Uint16), `[{"key":"x","value":7}]`, nil, `[{"key":"x","value":7}]`},
	}
	var fields []arrow.Field
	var line []string
	for i, c := range types {
		fields = append(fields, arrow.Field{Name: fmt.Sprint("c", i), Type: c.put, Nullable: true})
		line = append(line, fmt.Sprintf("%q:%s", fields[i].Name, c.json))
	}
	put(t, s, "b", "t", jsonBatch(t, arrow.NewSchema(fields, nil), "{"+strings.Join(line, ",")+"}"))
	for _, source := range []string{"tail", "files"} {
		r := must.Get(s.Query(t.Context(), "SELECT * FROM b.t", nil))(t)
		if !r.Next() {
			t.Fatalf("got no rows; error: %v", r.Err())
		}
		for i, c := range types {
			column := r.RecordBatch().Column(i)
			if c.got == nil {
				c.got = c.put
			}
			if fmt.Sprint(column.DataType()) != fmt.Sprint(c.got) && c.got.ID() != column.DataType().ID() || column.ValueStr(0) != c.want {
				t.Errorf("type %s read from the %s: got %s %s, want %s %s", c.put, source, column.DataType(), column.ValueStr(0), c.got, c.want)
			}
		}
		r.Release()
		fold(t, s)
	}
}
