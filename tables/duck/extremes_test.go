//go:build cgo

package duck_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TestExtremes checks that one query can read extreme values of each type, and nulls, both from files and from the
// tail.
func TestExtremes(t *testing.T) {
	s := newStore(t, nil)
	decimal38 := &arrow.Decimal128Type{Precision: 38, Scale: 10}
	huge, err := decimal128.FromString("9999999999999999999999999999.9999999999", 38, 10)
	if err != nil {
		t.Fatal(err)
	}
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
		if err := b.Field(15).(*array.BinaryDictionaryBuilder).AppendString([]string{"", "z", "\x00"}[i]); err != nil {
			t.Fatal(err)
		}
		b.Field(16).(*array.StringBuilder).Append([]string{"", "ä\x00🙂", "NULL"}[i])
		b.Field(17).(*array.BinaryBuilder).Append([][]byte{{}, {0, 0xff, 0}, []byte("(null)")}[i])
		if err := b.Field(18).AppendValueFromString([]string{`{"l":null,"x":null}`, `{"l":[null,[],[{"key":"","value":null},{"key":"k","value":18446744073709551615}]],"x":-128}`, `{"l":[],"x":1}`}[i]); err != nil {
			t.Fatal(err)
		}
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
