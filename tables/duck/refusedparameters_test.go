//go:build cgo

package duck_test

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
)

// TestParametersRefused passes parameters that DuckDB cannot represent, some of which would crash the
// process. Each must cause an error.
func TestParametersRefused(t *testing.T) {
	s := newStore(t, nil)
	zone := func(u arrow.TimeUnit) arrow.DataType { return &arrow.TimestampType{Unit: u, TimeZone: "UTC"} }
	for _, c := range []struct {
		dataType arrow.DataType
		appendTo func(array.Builder)
		want     string
	}{
		{arrow.BinaryTypes.String, func(b array.Builder) { b.(*array.StringBuilder).Append("a\xff") }, "not UTF-8"},
		{&arrow.Decimal128Type{Precision: 2}, append128(100), "100 with scale 0 does not fit into decimal(2, 0)"},
		{&arrow.Decimal128Type{Precision: 2}, append128(-100), "does not fit into"},
		{&arrow.Decimal128Type{Precision: 39}, append128(1), "does not fit into"},
		{&arrow.Decimal128Type{Precision: 5, Scale: -2}, append128(1), "does not fit into"},
		{&arrow.Decimal128Type{Precision: 5, Scale: 6}, append128(1), "does not fit into"},
		{&arrow.Decimal32Type{Precision: 5}, func(b array.Builder) { b.(*array.Decimal32Builder).Append(1) }, "a value of type decimal32"},
		{&arrow.Decimal64Type{Precision: 5}, func(b array.Builder) { b.(*array.Decimal64Builder).Append(1) }, "a value of type decimal64"},
		{arrow.FixedWidthTypes.Time64us, func(b array.Builder) { b.(*array.Time64Builder).Append(-1) }, "is not a time of day"},
		{arrow.FixedWidthTypes.Time64ns, func(b array.Builder) { b.(*array.Time64Builder).Append(86_400_000_000_001) }, "is not a time of day"},
		{arrow.FixedWidthTypes.Time32s, func(b array.Builder) { b.(*array.Time32Builder).Append(86_401) }, "is not a time of day"},
		{zone(arrow.Nanosecond), func(b array.Builder) { b.(*array.TimestampBuilder).Append(1) }, "not a whole number of microseconds"},
		{zone(arrow.Second), func(b array.Builder) { b.(*array.TimestampBuilder).Append(1 << 62) }, "out of range"},
		{arrow.FixedWidthTypes.Duration_s, func(b array.Builder) { b.(*array.DurationBuilder).Append(-1 << 63) }, "out of range"},
		{arrow.FixedWidthTypes.MonthInterval, func(b array.Builder) { b.(*array.MonthIntervalBuilder).Append(1) }, "a value of type month_interval"},
		{arrow.FixedWidthTypes.DayTimeInterval, func(b array.Builder) { b.(*array.DayTimeIntervalBuilder).Append(arrow.DayTimeInterval{Days: 1}) }, "a value of type day_time_interval"},
		{arrow.FixedWidthTypes.MonthDayNanoInterval, func(b array.Builder) {
			b.(*array.MonthDayNanoIntervalBuilder).Append(arrow.MonthDayNanoInterval{Nanoseconds: 1})
		}, "not a whole number of microseconds"},
	} {
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "p", Type: c.dataType}}, nil))
		c.appendTo(b.Field(0))
		got, err := rows(t, s, "SELECT $1::VARCHAR", &tables.QueryOptions{Parameters: b.NewRecordBatch()})
		if err == nil || !strings.Contains(err.Error(), "parameter $1: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("parameter of type %s: got %q, error %v; want an error that contains %q", c.dataType, got, err, c.want)
		}
	}
	if _, err := rows(t, s, "SELECT 'a\xff'", nil); err == nil || !strings.Contains(err.Error(), "not valid UTF-8") {
		t.Errorf(`query that is not UTF-8: error = %v, want an error with the text "not valid UTF-8"`, err)
	}
	// The extreme values of decimals are valid.
	maxValue := "99999999999999999999999999999999999999"
	for _, v := range []string{maxValue, "-" + maxValue} {
		p := jsonBatch(t, arrow.NewSchema([]arrow.Field{{Name: "p", Type: &arrow.Decimal128Type{Precision: 38}}}, nil), `{"p":"`+v+`"}`)
		expect(t, s, "SELECT $1::VARCHAR", &tables.QueryOptions{Parameters: p}, v)
	}
}

func append128(v int64) func(array.Builder) {
	return func(b array.Builder) { b.(*array.Decimal128Builder).Append(decimal128.FromI64(v)) }
}
