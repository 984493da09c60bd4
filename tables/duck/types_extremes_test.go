//go:build cgo

package duck_test

import (
	"fmt"
	"math"
	"os/exec"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
)

// TestExtremes checks that one query can read extreme values of each type, and nulls, both from files and from the
// tail.
func TestExtremes(t *testing.T) {
	s := newStore(t, nil)
	decimal38 := &arrow.Decimal128Type{Precision: 38, Scale: 10}
	huge := must.Get(decimal128.FromString("9999999999999999999999999999.9999999999", 38, 10))(t)
	nested := arrow.StructOf(
		arrow.Field{Name: "l", Type: arrow.ListOf(arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Uint64)), Nullable: true},
		arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int8, Nullable: true})
	fields := []arrow.Field{
		{Name: "u64", Type: arrow.PrimitiveTypes.Uint64},
		{Name: "i64", Type: arrow.PrimitiveTypes.Int64},
		{Name: "u8", Type: arrow.PrimitiveTypes.Uint8},
		{Name: "i8", Type: arrow.PrimitiveTypes.Int8},
		{Name: "u32", Type: arrow.PrimitiveTypes.Uint32},
		{Name: "i16", Type: arrow.PrimitiveTypes.Int16},
		{Name: "d", Type: decimal38},
		{Name: "f64", Type: arrow.PrimitiveTypes.Float64},
		{Name: "f32", Type: arrow.PrimitiveTypes.Float32},
		{Name: "f16", Type: arrow.FixedWidthTypes.Float16},
		{Name: "us", Type: &arrow.TimestampType{Unit: arrow.Microsecond}},
		{Name: "ns", Type: &arrow.TimestampType{Unit: arrow.Nanosecond}},
		{Name: "tz", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "America/New_York"}},
		{Name: "date", Type: arrow.PrimitiveTypes.Date32},
		{Name: "time", Type: arrow.FixedWidthTypes.Time64us},
		{Name: "dict", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}},
		{Name: "s", Type: arrow.BinaryTypes.String},
		{Name: "b", Type: arrow.BinaryTypes.Binary},
		{Name: "n", Type: nested},
	}
	for i := range fields {
		fields[i].Nullable = true
	}
	schema := arrow.NewSchema(fields, nil)
	const kinds = 4 // lowest, highest, unusual, null
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	micros := []int64{-62135596800_000_000, 253402300799_999_999, -1}
	f64 := []float64{math.Inf(-1), math.NaN(), math.Copysign(0, -1)}
	for i := range kinds - 1 {
		b.Field(0).(*array.Uint64Builder).Append([]uint64{0, math.MaxUint64, 1 << 63}[i])
		b.Field(1).(*array.Int64Builder).Append([]int64{math.MinInt64, math.MaxInt64, -1}[i])
		b.Field(2).(*array.Uint8Builder).Append([]uint8{0, 255, 128}[i])
		b.Field(3).(*array.Int8Builder).Append([]int8{-128, 127, -1}[i])
		b.Field(4).(*array.Uint32Builder).Append([]uint32{0, math.MaxUint32, 1 << 31}[i])
		b.Field(5).(*array.Int16Builder).Append([]int16{math.MinInt16, math.MaxInt16, -1}[i])
		b.Field(6).(*array.Decimal128Builder).Append([]decimal128.Num{huge.Negate(), huge, decimal128.FromI64(-1)}[i])
		b.Field(7).(*array.Float64Builder).Append(f64[i])
		b.Field(8).(*array.Float32Builder).Append([]float32{-math.MaxFloat32, float32(math.Inf(1)), math.SmallestNonzeroFloat32}[i])
		b.Field(9).(*array.Float16Builder).Append([]float16.Num{float16.MinNum, float16.MaxNum, float16.Inf()}[i])
		b.Field(10).(*array.TimestampBuilder).Append(arrow.Timestamp(micros[i]))
		b.Field(11).(*array.TimestampBuilder).Append([]arrow.Timestamp{-9223286400_000_000_000, math.MaxInt64 - 1, -1}[i])
		b.Field(12).(*array.TimestampBuilder).Append(arrow.Timestamp(micros[i]))
		b.Field(13).(*array.Date32Builder).Append([]arrow.Date32{-719162, 2932896, -1}[i])
		b.Field(14).(*array.Time64Builder).Append([]arrow.Time64{0, 86_399_999_999, 1}[i])
		must.Do(t, b.Field(15).(*array.BinaryDictionaryBuilder).AppendString([]string{"", "z", "\x00"}[i]))
		b.Field(16).(*array.StringBuilder).Append([]string{"", "ä\x00🙂", "NULL"}[i])
		b.Field(17).(*array.BinaryBuilder).Append([][]byte{{}, {0, 0xff, 0}, []byte("(null)")}[i])
		must.Do(t, b.Field(18).AppendValueFromString([]string{`{"l":null,"x":null}`, `{"l":[null,[],[{"key":"","value":null},{"key":"k","value":18446744073709551615}]],"x":-128}`, `{"l":[],"x":1}`}[i]))
	}
	for i := range fields {
		b.Field(i).AppendNull()
	}
	batch := b.NewRecordBatch()
	put(t, s, "b", "t", batch)
	fold(t, s)
	put(t, s, "b", "t", batch)
	for c, f := range fields {
		text := func(a arrow.Array, i int) string {
			if v, ok := a.(*array.Float64); ok && a.IsValid(i) {
				return fmt.Sprint(math.Float64bits(v.Value(i)) == math.Float64bits(f64[i%kinds]))
			}
			if v, ok := a.(*array.Timestamp); ok && a.IsValid(i) {
				return fmt.Sprint(int64(v.Value(i)))
			}
			if v, ok := a.(*array.Float16); ok && a.IsValid(i) {
				return fmt.Sprint(v.Value(i).Float32())
			}
			return a.ValueStr(i)
		}
		r, err := s.Query(t.Context(), fmt.Sprintf("SELECT %q FROM b.t", f.Name), nil)
		if err != nil {
			t.Errorf("query of column %s: %v", f.Name, err)
			continue
		}
		row := 0
		for r.Next() {
			got := r.RecordBatch().Column(0)
			for i := range got.Len() {
				if g, w := text(got, i), text(batch.Column(c), row%kinds); g != w {
					t.Errorf("column %s of type %s, row %d: got %s, want %s", f.Name, got.DataType(), row, g, w)
				}
				row++
			}
		}
		if r.Err() != nil || row != 2*kinds {
			t.Errorf("column %s: got %d rows, want %d; error: %v", f.Name, row, 2*kinds, r.Err())
		}
		r.Release()
	}
	// Sums near the limits of 64 bits.
	expect(t, s, "SELECT sum(i64), sum(-1 - i64::HUGEINT) FROM b.t WHERE i64 < -1 GROUP BY random()", nil,
		"-9223372036854775808|9223372036854775807", "-9223372036854775808|9223372036854775807")
	for _, sql := range []string{"SELECT sum(i64) - 1 FROM b.t WHERE i64 < -1 GROUP BY random()", "SELECT sum(i64) + 1 FROM b.t WHERE i64 > 0 GROUP BY random()", "SELECT sum(i64) FROM b.t WHERE i64 > 0"} {
		if got, err := rows(t, s, sql, nil); err == nil {
			t.Errorf("%s = %v, want an overflow error", sql, got)
		}
	}
}

func nullable(name string, typ arrow.DataType) arrow.Field {
	return arrow.Field{Name: name, Type: typ, Nullable: true}
}

// floats is a schema with floats at every depth.
var floats = arrow.NewSchema([]arrow.Field{
	nullable("k", arrow.PrimitiveTypes.Int64),
	nullable("f", arrow.PrimitiveTypes.Float64),
	nullable("g", arrow.PrimitiveTypes.Float32),
	nullable("s", arrow.StructOf(nullable("a", arrow.PrimitiveTypes.Float64), nullable("b", arrow.StructOf(nullable("c", arrow.PrimitiveTypes.Float32))))),
	nullable("l", arrow.ListOf(arrow.PrimitiveTypes.Float64)),
	nullable("m", arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Float32)),
}, nil)

// floatRow returns a row of floats in JSON, where each float is v.
func floatRow(k int, v string) string {
	return fmt.Sprintf(`{"k":%d,"f":%s,"g":%s,"s":{"a":%s,"b":{"c":%s}},"l":[%s],"m":[{"key":"x","value":%s}]}`, k, v, v, v, v, v, v)
}

// expectNaN checks conditions on a table where row 2 contains NaN, rows 1 and 4 contain 1, and row 3 contains null.
// In SQL, NaN equals itself and is larger than all numbers.
func expectNaN(t *testing.T, s *tables.Store, state string) {
	t.Helper()
	for _, e := range []string{"f", "g", "s.a", "s.b.c", "l[1]", "m['x']"} {
		for _, p := range []string{
			"%s > 2", "%s >= 2", "%s > 1", "%s <> 1", "%s = 'NaN'", "NOT (%s <= 1)", "NOT (%s = 1)", "NOT %s < 2", "%s >= 'inf'", "%s BETWEEN 2 AND 'NaN'",
			"%s IN (5, 'NaN')", "%s NOT IN (1, 5)", "isnan(%s)", "%s IS DISTINCT FROM 1 AND k <> 3",
		} {
			sql := "SELECT k FROM b.t WHERE " + fmt.Sprintf(p, e)
			if got, err := rows(t, s, sql, nil); err != nil || fmt.Sprint(got) != "[2]" {
				t.Errorf("%s: %s = %v, error %v; want row 2", state, sql, got, err)
			}
		}
		sql := fmt.Sprintf("SELECT min(%s), max(%[1]s), count(%[1]s) FROM b.t", e)
		if got, err := rows(t, s, sql, nil); err != nil || fmt.Sprint(got) != "[1|NaN|3]" {
			t.Errorf("%s: %s = %v, error %v; want [1|NaN|3]", state, sql, got, err)
		}
	}
}

// TestNaN reads rows with NaN, which the bounds in Parquet files omit.
func TestNaN(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", jsonBatch(t, floats, floatRow(1, "1")))
	put(t, s, "b", "t", jsonBatch(t, floats, floatRow(2, `"NaN"`)+","+floatRow(3, "null")+","+floatRow(4, "1")))
	expectNaN(t, s, "rows in the tail")
	fold(t, s)
	expectNaN(t, s, "folded rows")
	must.Get(s.Compact(t.Context(), nil))(t)
	expectNaN(t, s, "compacted rows")
	r := must.Get(s.Query(t.Context(), "SELECT * FROM b.t", nil))(t)
	must.Get(s.Bucket("b").Table("t").Put(t.Context(), r, tables.PutReplace, nil))(t)
	expectNaN(t, s, "rows put as one file")
}

// TestNaNForeign reads a file written by pyarrow, which does not count NaN. All of its float
// columns must be treated as if they contained NaN.
func TestNaNForeign(t *testing.T) {
	python := procs.Python(t, "pyiceberg")
	s := newStore(t, nil)
	put(t, s, "b", "t", jsonBatch(t, floats, floatRow(1, "1")))
	if plan := planOf(t, s); len(plan.NaN) > 0 {
		t.Errorf("columns %q may contain NaN, want no column", plan.NaN)
	}
	const add = `
import sys, pyarrow as pa
from pyiceberg.catalog import load_catalog
t = load_catalog("partd", type="sql", uri=f"sqlite:///{sys.argv[1]}/catalog.db", warehouse=f"file://{sys.argv[1]}").load_table("b.t")
row = lambda v: {"f": v, "g": v, "s": {"a": v, "b": {"c": v}}, "l": [v], "m": [("x", v)]}
t.append(pa.Table.from_pylist([{"k": 2, **row(float("nan"))}, {"k": 3, **row(None)}, {"k": 4, **row(1.0)}], schema=t.schema().as_arrow()))
`
	if out, err := exec.Command(python, "-c", add, s.Dir()).CombinedOutput(); err != nil {
		t.Fatalf("the pyiceberg script failed: %v\n%s", err, out)
	}
	if plan := planOf(t, s); len(plan.NaN) != 5 {
		t.Errorf("columns %q may contain NaN, want all except k", plan.NaN)
	}
	expectNaN(t, s, "rows written by pyarrow")
	put(t, s, "b", "t", jsonBatch(t, floats, floatRow(5, "0.5")))
	expect(t, s, "SELECT k FROM b.t WHERE f > 2 OR f < 1", nil, "2", "5")
}

func planOf(t *testing.T, s *tables.Store) *tables.ScanPlan {
	t.Helper()
	plan := must.Get(s.Bucket("b").Table("t").ScanPlan(t.Context()))(t)
	t.Cleanup(plan.Close)
	return plan
}
