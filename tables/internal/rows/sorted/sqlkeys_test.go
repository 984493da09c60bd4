package sorted

import (
	"bytes"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/arrow-go/v18/arrow/float16"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestSQLKeyAppender checks that values of all types of a class have equal keys if and only if they are the same value,
// and that no key is a prefix of another one. Values of one list that are written differently, but equal, stand in one
// text with a | between them.
func TestSQLKeyAppender(t *testing.T) {
	type values struct {
		t    arrow.DataType
		list []string
	}
	for class, types := range map[string][]values{
		"integer": {
			{arrow.PrimitiveTypes.Int8, []string{"-128", "-1", "0", "127"}},
			{arrow.PrimitiveTypes.Int16, []string{"-129", "-1", "0", "127", "255", "256"}},
			{arrow.PrimitiveTypes.Int32, []string{"-129", "-1", "65536", "429496729"}},
			{arrow.PrimitiveTypes.Int64, []string{"-9223372036854775808", "-1", "0", "9223372036854775807"}},
			{arrow.PrimitiveTypes.Uint8, []string{"0", "127", "255"}},
			{arrow.PrimitiveTypes.Uint16, []string{"0", "255", "65535"}},
			{arrow.PrimitiveTypes.Uint32, []string{"0", "65536", "4294967295"}},
			{arrow.PrimitiveTypes.Uint64, []string{"0", "9223372036854775807", "9223372036854775808", "18446744073709551615"}},
		},
		"float": {
			{arrow.FixedWidthTypes.Float16, []string{"0|-0", "NaN", "0.5", "-0.5", "+Inf"}},
			{arrow.PrimitiveTypes.Float32, []string{"0|-0", "NaN", "0.5", "16777216", "0.10000000149011612", "-Inf"}},
			{arrow.PrimitiveTypes.Float64, []string{"0|-0", "NaN", "0.5", "16777216", "16777217", "0.1", "0.10000000149011612", "+Inf", "-Inf"}},
		},
		"text": {
			{arrow.BinaryTypes.String, []string{"", "a", "a\x00", "ab"}},
			{arrow.BinaryTypes.LargeString, []string{"", "\x00", "a"}},
			{arrow.BinaryTypes.StringView, []string{"", "a", "a text of more than twelve bytes"}},
		},
		"binary": {
			{arrow.BinaryTypes.Binary, []string{"", "YWJj"}},
			{arrow.BinaryTypes.LargeBinary, []string{"", "YWJk"}},
			{arrow.BinaryTypes.BinaryView, []string{"YWJj"}},
			{&arrow.FixedSizeBinaryType{ByteWidth: 3}, []string{"YWJj", "YWJk"}},
		},
		"boolean":      {{arrow.FixedWidthTypes.Boolean, []string{"true", "false"}}, {arrow.Null, nil}},
		"uuid":         {{extensions.NewUUIDType(), []string{"00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001"}}},
		"time32[s]":    {{arrow.FixedWidthTypes.Time32s, []string{"00:00:00", "23:59:59"}}},
		"time64[ns]":   {{arrow.FixedWidthTypes.Time64ns, []string{"00:00:00", "00:00:00.000000001"}}},
		"duration[ms]": {{arrow.FixedWidthTypes.Duration_ms, []string{"-1ms", "0ms", "1ms"}}},
		"date": {
			{arrow.FixedWidthTypes.Date32, []string{"1969-12-30", "1970-01-01", "2026-01-02"}},
			{arrow.FixedWidthTypes.Date64, []string{"1969-12-30", "1970-01-01", "2026-01-02"}},
		},
		"timestamp[ns]": {{&arrow.TimestampType{Unit: arrow.Nanosecond}, []string{"1969-12-31T23:59:59.999999001", "1969-12-31T23:59:59.999999002", "1970-01-01T00:00:00", "1970-01-01T00:00:00.000000001"}}},
		"timestamp[ns, tz=UTC]": {{&arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"}, []string{
			"1969-12-31T23:59:59.999998001Z|1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999001Z|1970-01-01T00:00:00Z|1970-01-01T00:00:00.000000999Z", "1970-01-01T00:00:00.000001Z",
		}}},
		"timestamp[us, tz=UTC]": {{&arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, []string{"1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000001Z"}}},
		"decimal of scale 2": {
			{&arrow.Decimal32Type{Precision: 9, Scale: 2}, []string{"-0.01", "0.00", "1.25"}},
			{&arrow.Decimal64Type{Precision: 18, Scale: 2}, []string{"-0.01", "42949672.96", "1.25"}},
			{&arrow.Decimal128Type{Precision: 38, Scale: 2}, []string{"-0.01", "0.00", "184467440737095516.16", "1.25"}},
		},
	} {
		valueOf := map[string]string{} // of each key
		keyOf := map[string]string{}
		for _, v := range types {
			if got, err := SQLKeyClass(v.t); err != nil || got != class {
				t.Errorf("SQLKeyClass(%s) = %q, %v; want %q", v.t, got, err, class)
			}
			b := array.NewBuilder(memory.DefaultAllocator, v.t)
			b.AppendNull() // so that the values are a slice
			b.AppendNull()
			names := []string{"null"}
			for _, value := range v.list {
				for text := range strings.SplitSeq(value, "|") {
					if err := b.AppendValueFromString(text); err != nil {
						t.Fatalf("%s %q: %v", v.t, text, err)
					}
					names = append(names, value)
				}
			}
			a := array.NewSlice(b.NewArray(), 1, int64(len(names)+1))
			appendKey := SQLKeyAppender(a)
			for row, name := range names {
				key := must.Get(appendKey([]byte("x"), row))(t)
				if other, exists := valueOf[string(key)]; exists && other != name {
					t.Errorf("%s %q has the key of %q", v.t, name, other)
				}
				if other, exists := keyOf[name]; exists && other != string(key) {
					t.Errorf("%s %q has the key %q, want %q", v.t, name, key, other)
				}
				valueOf[string(key)], keyOf[name] = name, string(key)
			}
		}
		for name, key := range keyOf {
			for other, longer := range keyOf {
				if name != other && bytes.HasPrefix([]byte(longer), []byte(key)) {
					t.Errorf("class %s: the key of %q is a prefix of that of %q", class, name, other)
				}
			}
		}
	}
}

// TestSQLKeySmallFloat16 compares the smallest float16 with the same number of another type.
func TestSQLKeySmallFloat16(t *testing.T) {
	half, double := array.NewFloat16Builder(memory.DefaultAllocator), array.NewFloat64Builder(memory.DefaultAllocator)
	half.Append(float16.FromBits(1))
	double.Append(0x1p-24)
	var keys [2][]byte
	for i, a := range []arrow.Array{half.NewArray(), double.NewArray()} {
		var err error
		keys[i], err = SQLKeyAppender(a)(nil, 0)
		must.Do(t, err)
	}
	if !bytes.Equal(keys[0], keys[1]) {
		t.Errorf("the keys of 2^-24 are %q and %q", keys[0], keys[1])
	}
}

// TestSQLKeyClass checks types that are refused, for example decimals that DuckDB reads as floats.
func TestSQLKeyClass(t *testing.T) {
	words := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
	if class, err := SQLKeyClass(words); err != nil || class != "text" {
		t.Errorf("SQLKeyClass(%s) = %q, %v; want text", words, class, err)
	}
	runs := arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, words)
	if class, err := SQLKeyClass(runs); err != nil || class != "text" {
		t.Errorf("SQLKeyClass(%s) = %q, %v; want text", runs, class, err)
	}
	for _, dt := range []arrow.DataType{
		&arrow.Decimal256Type{Precision: 50, Scale: 2}, arrow.FixedWidthTypes.MonthDayNanoInterval,
		arrow.ListOf(arrow.PrimitiveTypes.Int8), arrow.StructOf(), arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.ListOf(arrow.PrimitiveTypes.Int8)),
		&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: &arrow.Decimal256Type{Precision: 50, Scale: 2}},
	} {
		if class, err := SQLKeyClass(dt); err == nil {
			t.Errorf("SQLKeyClass(%s) = %q, want an error", dt, class)
		}
	}
}
