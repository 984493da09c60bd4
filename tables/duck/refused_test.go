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

// TestParametersRefused gives values that DuckDB has not, some of which would end
// the process.
func TestParametersRefused(t *testing.T) {
	s := newStore(t, nil)
	zone := func(u arrow.TimeUnit) arrow.DataType { return &arrow.TimestampType{Unit: u, TimeZone: "UTC"} }
	for _, c := range []struct {
		t    arrow.DataType
		give func(array.Builder)
		want string
	}{
		{arrow.BinaryTypes.String, func(b array.Builder) { b.(*array.StringBuilder).Append("a\xff") }, "not UTF-8"},
		{&arrow.Decimal128Type{Precision: 2}, give128(100), "100, of scale 0, is no value of decimal(2, 0)"},
		{&arrow.Decimal128Type{Precision: 2}, give128(-100), "no value of"},
		{&arrow.Decimal128Type{Precision: 39}, give128(1), "no value of"},
		{&arrow.Decimal128Type{Precision: 5, Scale: -2}, give128(1), "no value of"},
		{&arrow.Decimal128Type{Precision: 5, Scale: 6}, give128(1), "no value of"},
		{&arrow.Decimal32Type{Precision: 5}, func(b array.Builder) { b.(*array.Decimal32Builder).Append(1) }, "a value of type decimal32"},
		{&arrow.Decimal64Type{Precision: 5}, func(b array.Builder) { b.(*array.Decimal64Builder).Append(1) }, "a value of type decimal64"},
		{arrow.FixedWidthTypes.Time64us, func(b array.Builder) { b.(*array.Time64Builder).Append(-1) }, "no time of a day"},
		{arrow.FixedWidthTypes.Time64ns, func(b array.Builder) { b.(*array.Time64Builder).Append(86_400_000_000_001) }, "no time of a day"},
		{arrow.FixedWidthTypes.Time32s, func(b array.Builder) { b.(*array.Time32Builder).Append(86_401) }, "no time of a day"},
		{zone(arrow.Nanosecond), func(b array.Builder) { b.(*array.TimestampBuilder).Append(1) }, "no whole microseconds"},
		{zone(arrow.Second), func(b array.Builder) { b.(*array.TimestampBuilder).Append(1 << 62) }, "too many"},
		{arrow.FixedWidthTypes.Duration_s, func(b array.Builder) { b.(*array.DurationBuilder).Append(-1 << 63) }, "too many"},
		{arrow.FixedWidthTypes.MonthInterval, func(b array.Builder) { b.(*array.MonthIntervalBuilder).Append(1) }, "a value of type month_interval"},
		{arrow.FixedWidthTypes.DayTimeInterval, func(b array.Builder) { b.(*array.DayTimeIntervalBuilder).Append(arrow.DayTimeInterval{Days: 1}) }, "a value of type day_time_interval"},
		{arrow.FixedWidthTypes.MonthDayNanoInterval, func(b array.Builder) {
			b.(*array.MonthDayNanoIntervalBuilder).Append(arrow.MonthDayNanoInterval{Nanoseconds: 1})
		}, "no whole microseconds"},
	} {
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "p", Type: c.t}}, nil))
		c.give(b.Field(0))
		got, err := rows(t, s, "SELECT $1::VARCHAR", &tables.QueryOptions{Parameters: b.NewRecordBatch()})
		if err == nil || !strings.Contains(err.Error(), "parameter $1: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v; want an error of %q", c.t, got, err, c.want)
		}
	}
	if _, err := rows(t, s, "SELECT 'a\xff'", nil); err == nil || !strings.Contains(err.Error(), "not UTF-8") {
		t.Error(err)
	}
	// The ends of what there is.
	most := "99999999999999999999999999999999999999"
	for _, v := range []string{most, "-" + most} {
		p := jsonBatch(t, arrow.NewSchema([]arrow.Field{{Name: "p", Type: &arrow.Decimal128Type{Precision: 38}}}, nil), `{"p":"`+v+`"}`)
		expect(t, s, "SELECT $1::VARCHAR", &tables.QueryOptions{Parameters: p}, v)
	}
}

func give128(v int64) func(array.Builder) {
	return func(b array.Builder) { b.(*array.Decimal128Builder).Append(decimal128.FromI64(v)) }
}
