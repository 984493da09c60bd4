package schema_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// cases lists all supported put types, each with its stored type, the type that readers get, and values.
var cases = []struct {
	Name                 string
	Put                  arrow.DataType
	StoredType, ReadType string // "" means the put type
	JSON                 string
}{
	{"null", arrow.Null, "bool", "", `[null,null,null]`},
	{"bool", arrow.FixedWidthTypes.Boolean, "", "", `[true,null,false]`},
	{"int8", arrow.PrimitiveTypes.Int8, "int32", "", `[-128,null,127]`},
	{"int16", arrow.PrimitiveTypes.Int16, "int32", "", `[-32768,null,32767]`},
	{"int32", arrow.PrimitiveTypes.Int32, "", "", `[-2147483648,null,2147483647]`},
	{"int64", arrow.PrimitiveTypes.Int64, "", "", `[-9007199254740993,null,9223372036854775807]`},
	{"uint8", arrow.PrimitiveTypes.Uint8, "int32", "", `[0,null,255]`},
	{"uint16", arrow.PrimitiveTypes.Uint16, "int32", "", `[0,null,65535]`},
	{"uint32", arrow.PrimitiveTypes.Uint32, "int64", "", `[0,null,4294967295]`},
	{"uint64", arrow.PrimitiveTypes.Uint64, "decimal(20, 0)", "", `[0,null,18446744073709551615]`},
	{"float16", arrow.FixedWidthTypes.Float16, "float32", "", `[0.5,null,-65504]`},
	{"float32", arrow.PrimitiveTypes.Float32, "", "", `[0.1,null,-3e38]`},
	{"float64", arrow.PrimitiveTypes.Float64, "", "", `[0.1,null,-3e300]`},
	{"string", arrow.BinaryTypes.String, "", "", `["","x",null]`},
	{"large_string", arrow.BinaryTypes.LargeString, "utf8", "", `["","x",null]`},
	{"string_view", arrow.BinaryTypes.StringView, "utf8", "", `["","longer than twelve bytes",null]`},
	{"binary", arrow.BinaryTypes.Binary, "", "", `["","YWI=",null]`},
	{"large_binary", arrow.BinaryTypes.LargeBinary, "binary", "", `["","YWI=",null]`},
	{"binary_view", arrow.BinaryTypes.BinaryView, "binary", "", `["","YWI=",null]`},
	{"fixed", &arrow.FixedSizeBinaryType{ByteWidth: 2}, "", "", `["YWI=",null,"AAA="]`},
	{"decimal32", &arrow.Decimal32Type{Precision: 7, Scale: 2}, "decimal(7, 2)", "", `["1.25",null,"-99999.99"]`},
	{"decimal64", &arrow.Decimal64Type{Precision: 15, Scale: 2}, "decimal(15, 2)", "", `["1.25",null,"-9999999999999.99"]`},
	{"decimal128", &arrow.Decimal128Type{Precision: 38, Scale: 2}, "", "", `["1.25",null,"-999999999999999999999999999999999999.99"]`},
	{"date32", arrow.FixedWidthTypes.Date32, "", "", `["1969-12-31",null,"2026-01-31"]`},
	{"date64", arrow.FixedWidthTypes.Date64, "timestamp[us]", "", `["1969-12-31",null,"2026-01-31"]`},
	{"time32s", arrow.FixedWidthTypes.Time32s, "time64[us]", "", `["00:00:00",null,"23:59:59"]`},
	{"time32ms", arrow.FixedWidthTypes.Time32ms, "time64[us]", "", `["00:00:00",null,"23:59:59.999"]`},
	{"time64us", arrow.FixedWidthTypes.Time64us, "", "", `["00:00:00",null,"23:59:59.999999"]`},
	{"time64ns", arrow.FixedWidthTypes.Time64ns, "int64", "", `["00:00:00",null,"23:59:59.999999999"]`},
	{"timestamp_s", &arrow.TimestampType{Unit: arrow.Second}, "timestamp[us]", "", `["1969-12-31 00:00:01",null,"2026-01-31 00:00:00"]`},
	{"timestamp_ms", &arrow.TimestampType{Unit: arrow.Millisecond}, "timestamp[us]", "", `["1969-12-31 00:00:01.5",null,"2026-01-31 00:00:00"]`},
	{"timestamp_us", &arrow.TimestampType{Unit: arrow.Microsecond}, "", "", `["1969-12-31 00:00:01.5",null,"2026-01-31 00:00:00"]`},
	{"timestamp_ns", &arrow.TimestampType{Unit: arrow.Nanosecond}, "", "", `["1969-12-31 00:00:01.5",null,"2026-01-31 00:00:00.000000001"]`},
	{"timestamp_utc", &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, "", "", `["1969-12-31 00:00:01.5Z",null,"2026-01-31 00:00:00Z"]`},
	{"timestamp_zone", &arrow.TimestampType{Unit: arrow.Second, TimeZone: "America/New_York"}, "timestamp[us, tz=UTC]", "", `["1969-12-31 00:00:01Z",null,"2026-01-31 00:00:00Z"]`},
	{"duration", arrow.FixedWidthTypes.Duration_ns, "int64", "", `[1,null,-9]`},
	{"dictionary", &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, "utf8", "utf8", `["a","b",null]`},
	{"run_end", arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int16), "int32", "int16", `[1,1,2]`},
	{"list", arrow.ListOf(arrow.PrimitiveTypes.Uint32), "list<element: int64, nullable>", "", `[[1,null],[],null]`},
	{"large_list", arrow.LargeListOf(arrow.BinaryTypes.LargeString), "list<element: utf8, nullable>", "", `[["x",null],[],null]`},
	{"fixed_list", arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32), "list<element: float32, nullable>", "", `[[1,2],null,[3,null]]`},
	{"struct", arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Uint8, Nullable: true}, arrow.Field{Name: "b", Type: arrow.ListOf(arrow.BinaryTypes.StringView), Nullable: true}), "struct<a: int32 nullable, b: list<element: utf8, nullable> nullable>", "", `[{"a":1,"b":["x"]},null,{"a":null,"b":null}]`},
	{"map", arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Uint16), "map<utf8, int32, items_nullable>", "", `[[{"key":"x","value":1}],[],null]`},
	{"uuid", extensions.NewUUIDType(), "fixed_size_binary[16]", "", `["00000000-0000-0000-0000-000000000001",null,"ffffffff-ffff-ffff-ffff-ffffffffffff"]`},
	{"json", mustJSON(), "utf8", "", `["{}",null,"[1]"]`},
}

func mustJSON() arrow.DataType {
	t, err := extensions.NewJSONType(arrow.BinaryTypes.String)
	if err != nil {
		panic(err)
	}
	return t
}

// TestTypes checks that every type has the stored type given in cases, that Iceberg accepts this type, and
// that the values and the type can be restored, even from a slice of a batch.
func TestTypes(t *testing.T) {
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			a, _, err := array.FromJSON(memory.DefaultAllocator, c.Put, strings.NewReader(c.JSON))
			must.Do(t, err)
			columns := arrow.NewSchema([]arrow.Field{{Name: "x", Type: c.Put, Nullable: true}}, nil)
			stored := must.Get(schema.Stored(columns))(t)
			if got := stored.Field(0).Type.String(); got != orDefault(c.StoredType, c.Put.String()) {
				t.Errorf("stored as %s, want %s", got, orDefault(c.StoredType, c.Put.String()))
			}
			if _, err := table.ArrowSchemaToIcebergWithFreshIDs(stored, false); err != nil {
				t.Errorf("Iceberg does not accept the stored type: %v", err)
			}
			text := must.Get(schema.Encode(columns))(t)
			put := must.Get(schema.Decode(text))(t)
			logical := schema.WithoutEncodings(schema.RestorePutTypes(stored, put))
			if got := logical.Field(0).Type.String(); got != orDefault(c.ReadType, c.Put.String()) {
				t.Errorf("read as %s, want %s", got, orDefault(c.ReadType, c.Put.String()))
			}
			for start := range 3 {
				slice := array.NewSlice(a, int64(start), 3)
				batch := array.NewRecordBatch(columns, []arrow.Array{slice}, int64(3-start))
				converted := must.Get(schema.Convert(batch, stored))(t)
				restored := must.Get(schema.Convert(converted, logical))(t)
				for i := range slice.Len() {
					if got, want := restored.Column(0).ValueStr(i), slice.ValueStr(i); got != want && c.ReadType == "" {
						t.Errorf("row %d: got %s, want %s", start+i, got, want)
					}
				}
				if c.ReadType == "" && !array.Equal(restored.Column(0), slice) {
					t.Errorf("the restored column is %v, want %v", restored.Column(0), slice)
				} else if c.ReadType != "" && fmt.Sprint(restored.Column(0)) != map[string]string{"dictionary": `["a" "b" (null)]`, "run_end": "[1 1 2]"}[c.Name] && start == 0 {
					t.Errorf("the restored column contains the wrong values %v", restored.Column(0))
				}
			}
		})
	}
}

func orDefault(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// TestRefused checks that a single error names all columns that cannot be stored, with their types.
func TestRefused(t *testing.T) {
	var fields []arrow.Field
	for _, dt := range []arrow.DataType{
		arrow.FixedWidthTypes.MonthInterval, arrow.FixedWidthTypes.DayTimeInterval, arrow.FixedWidthTypes.MonthDayNanoInterval,
		&arrow.Decimal256Type{Precision: 50, Scale: 2}, &arrow.Decimal128Type{Precision: 5, Scale: -2}, &arrow.FixedSizeBinaryType{},
		arrow.DenseUnionOf(nil, nil), arrow.SparseUnionOf(nil, nil), arrow.ListViewOf(arrow.PrimitiveTypes.Int8), arrow.LargeListViewOf(arrow.PrimitiveTypes.Int8),
		arrow.StructOf(), arrow.ListOf(arrow.StructOf()), arrow.ListOf(arrow.FixedWidthTypes.MonthInterval), arrow.StructOf(arrow.Field{Name: "in", Type: arrow.FixedWidthTypes.MonthInterval}), arrow.MapOf(arrow.BinaryTypes.String, arrow.FixedWidthTypes.MonthInterval),
	} {
		fields = append(fields, arrow.Field{Name: fmt.Sprintf("c%d", len(fields)), Type: dt})
	}
	_, err := schema.Stored(arrow.NewSchema(fields, nil))
	var refused schema.RefusedColumns
	if !errors.As(err, &refused) || len(refused) != len(fields) {
		t.Fatalf("the error lists %d columns, want %d: %v", len(refused), len(fields), err)
	}
	for _, f := range fields {
		if !strings.Contains(err.Error(), fmt.Sprintf("column %q has type %s", f.Name, f.Type)) {
			t.Errorf("the error does not name column %s with type %s", f.Name, f.Type)
		}
	}
}

// TestRestoreAfterForeignChanges checks that RestorePutTypes returns the stored type for columns that another
// writer changed or added, and the put type and metadata for all other columns.
func TestRestoreAfterForeignChanges(t *testing.T) {
	note := arrow.NewMetadata([]string{"unit"}, []string{"m"})
	put := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Uint8, Metadata: note}, {Name: "b", Type: arrow.PrimitiveTypes.Int8}}, &note)
	stored := arrow.NewSchema([]arrow.Field{{Name: "new", Type: arrow.BinaryTypes.String}, {Name: "b", Type: arrow.PrimitiveTypes.Int64}, {Name: "a", Type: arrow.PrimitiveTypes.Int32}}, nil)
	got := schema.WithoutEncodings(schema.RestorePutTypes(stored, put))
	if s := fmt.Sprint(got.Field(0).Type, got.Field(1).Type, got.Field(2).Type); s != "utf8 int64 uint8" {
		t.Errorf("the restored types are %s, want utf8 int64 uint8", s)
	}
	if !got.Field(2).Metadata.Equal(note) || !got.Metadata().Equal(note) {
		t.Errorf("the restored schema lacks metadata: %v", got)
	}
}

// TestIntoUUIDs checks that a column of Iceberg's type uuid, which only other programs create, accepts UUIDs and other
// values of 16 bytes.
func TestIntoUUIDs(t *testing.T) {
	uuid := extensions.NewUUIDType()
	for _, c := range []struct {
		put, target arrow.DataType
		json        string
	}{
		{uuid, uuid, `["00000000-0000-0000-0000-000000000001", null]`},
		{&arrow.FixedSizeBinaryType{ByteWidth: 16}, uuid, `["AAAAAAAAAAAAAAAAAAAAAQ==", null]`},
		{arrow.ListOf(uuid), arrow.ListOf(uuid), `[["00000000-0000-0000-0000-000000000001", null], null]`},
	} {
		a, _, err := array.FromJSON(memory.DefaultAllocator, c.put, strings.NewReader(c.json))
		must.Do(t, err)
		put := arrow.NewSchema([]arrow.Field{{Name: "u", Type: c.put, Nullable: true}}, nil)
		target := arrow.NewSchema([]arrow.Field{{Name: "u", Type: c.target, Nullable: true}}, nil)
		caster, err := schema.NewPutCaster(put, target, target, nil)
		if err != nil {
			t.Errorf("NewPutCaster from %s: %v", c.put, err)
			continue
		}
		got, err := caster.Cast(array.NewRecordBatch(put, []arrow.Array{a}, 2))
		if err != nil {
			t.Errorf("Cast from %s: %v", c.put, err)
		} else if text := fmt.Sprint(got.Column(0)); !arrow.TypeEqual(got.Column(0).DataType(), c.target) || !strings.Contains(text, "00000000-0000-0000-0000-000000000001") || !strings.Contains(text, "null") {
			t.Errorf("Cast of %s to %s returned %s, want the UUID and a null", c.put, c.target, text)
		}
	}
	if _, err := schema.NewCaster(arrow.NewSchema([]arrow.Field{{Name: "u", Type: &arrow.FixedSizeBinaryType{ByteWidth: 15}}}, nil), arrow.NewSchema([]arrow.Field{{Name: "u", Type: uuid}}, nil), nil); err == nil {
		t.Error("NewCaster accepted values of 15 bytes for a UUID column")
	}
}

// TestCaster checks which types of columns a put may have for a column of a table, and that columns which the put lacks
// become null.
func TestCaster(t *testing.T) {
	int32s, int64s, float64s := arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float64
	second := arrow.Field{Name: "y", Type: int32s, Nullable: true}
	digits := func(precision, scale int32) arrow.DataType {
		return &arrow.Decimal128Type{Precision: precision, Scale: scale}
	}
	for _, c := range []struct {
		put, table arrow.DataType
		json, want string // stored values; "" means an error
	}{
		{int32s, int64s, `[1]`, "[1]"},
		{int32s, float64s, `[1]`, "[1]"},
		{int64s, float64s, `[1]`, "[1]"},
		{arrow.PrimitiveTypes.Float32, float64s, `[0.5]`, "[0.5]"},
		{arrow.Null, int64s, `[null]`, "[(null)]"},
		{int64s, int32s, `[1]`, ""},
		{int64s, arrow.BinaryTypes.String, `[1]`, ""},
		{int64s, digits(20, 0), `[1]`, ""},
		{float64s, int64s, `[1]`, ""},
		{int32s, arrow.PrimitiveTypes.Float32, `[1]`, ""},
		{digits(3, 3), digits(4, 3), `["0.125"]`, "[0.125]"},
		{digits(5, 2), digits(4, 2), `["1.25"]`, ""},
		{arrow.FixedWidthTypes.Duration_s, arrow.FixedWidthTypes.Duration_ms, `[2]`, "[2000]"},
		{arrow.FixedWidthTypes.Duration_ms, arrow.FixedWidthTypes.Duration_s, `[1]`, ""},
	} {
		a, _, err := array.FromJSON(memory.DefaultAllocator, c.put, strings.NewReader(c.json))
		must.Do(t, err)
		put := arrow.NewSchema([]arrow.Field{{Name: "x", Type: c.put, Nullable: true}}, nil)
		table := arrow.NewSchema([]arrow.Field{{Name: "x", Type: c.table, Nullable: true}, second}, nil)
		caster, err := schema.NewPutCaster(put, must.Get(schema.Stored(table))(t), table, nil)
		var got arrow.RecordBatch
		if err == nil {
			got, err = caster.Cast(array.NewRecordBatch(put, []arrow.Array{a}, 1))
		}
		if (err != nil) != (c.want == "") || err == nil && (got.Column(0).String() != c.want || !got.Column(1).IsNull(0)) {
			t.Errorf("Cast of %s from %s to %s = %v, %v, want %q and null", c.json, c.put, c.table, got, err, c.want)
		}
	}
}

// TestNarrowing checks that a value that does not fit the put type is an error, and is never changed.
func TestNarrowing(t *testing.T) {
	int64s, int96s := arrow.PrimitiveTypes.Int64, &arrow.FixedSizeBinaryType{ByteWidth: 12}
	for _, c := range []struct {
		from arrow.DataType
		json string
		to   arrow.DataType
		want string // "" means an error
	}{
		{int64s, `[256]`, arrow.PrimitiveTypes.Uint8, ""},
		{int64s, `[-1]`, arrow.PrimitiveTypes.Uint32, ""},
		{int96s, `["AAAAAAAAAACMPSUA", null]`, arrow.FixedWidthTypes.Timestamp_us, "[0 (null)]"},
		{int96s, `["AQAAAAAAAACMPSUA"]`, arrow.FixedWidthTypes.Timestamp_ns, "[1]"},
		{int96s, `["AQAAAAAAAACMPSUA"]`, arrow.FixedWidthTypes.Timestamp_us, ""}, // a nanosecond
		{int96s, `["AAAAAAAAAAD/////"]`, arrow.FixedWidthTypes.Timestamp_ns, ""}, // after 2262
	} {
		a, _, err := array.FromJSON(memory.DefaultAllocator, c.from, strings.NewReader(c.json))
		must.Do(t, err)
		if got, err := schema.ConvertArray(a, c.to); (err != nil) != (c.want == "") || err == nil && got.String() != c.want {
			t.Errorf("ConvertArray(%s, %s) = %v, %v, want %q", c.json, c.to, got, err, c.want)
		}
	}
	if _, err := schema.Decode("not base64"); err == nil {
		t.Error("Decode accepted a text that is not base64")
	}
	if _, err := schema.Decode("AAAA"); err == nil {
		t.Error("Decode accepted zero bytes")
	}
}

func TestTypesInDocs(t *testing.T) {
	text := must.Get(os.ReadFile("../../../docs/types.md"))(t)
	for _, c := range cases {
		want := fmt.Sprintf("| %s | %s |\n", c.Put, c.StoredType)
		switch {
		case arrow.IsNested(c.Put.ID()):
			want = fmt.Sprintf("`%s`", c.Put.Name())
		case c.StoredType == "":
			want = fmt.Sprintf("`%s`", c.Put)
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("docs/types.md lacks\n%s", want)
		}
	}
}

// TestCodecsAreBounded checks that pages which decompress to more than their headers say take no more memory.
func TestCodecsAreBounded(t *testing.T) {
	for _, name := range []compress.Compression{compress.Codecs.Snappy, compress.Codecs.Gzip, compress.Codecs.Brotli, compress.Codecs.Zstd, compress.Codecs.Lz4Raw} {
		codec := must.Get(compress.GetCodec(name))(t)
		text := bytes.Repeat([]byte("text"), 8<<20)
		compressed := codec.Encode(make([]byte, codec.CompressBound(int64(len(text)))), text)
		decoded, err := compress.Decode(codec, make([]byte, len(text)), compressed)
		if err != nil || !bytes.Equal(decoded, text) {
			t.Errorf("%v: decoded %d bytes, error %v", name, len(decoded), err)
		}
		page := make([]byte, 1<<10)
		n := procs.Allocated(func() { _, err = compress.Decode(codec, page, compressed) })
		if err == nil || n > 16<<20 {
			t.Errorf("%v: decoding 32 MiB into 1 KiB allocated %d bytes, error %v", name, n, err)
		}
	}
}
