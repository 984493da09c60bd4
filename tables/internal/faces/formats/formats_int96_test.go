package formats

import (
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestInt96 checks that times in INT96 are read as microseconds in all years, or as the known columns say, and that an
// error names the column and the row of a value that has no exact timestamp.
func TestInt96(t *testing.T) {
	noEnd, day1, year2 := time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC), time.Unix(0, 1000).UTC(), time.Date(2, 1, 1, 0, 0, 0, 0, time.UTC)
	minimum, maximum := time.Unix(0, -1<<63).UTC(), time.Unix(0, 1<<63-1).UTC() // in nanoseconds
	known := func(x arrow.DataType) *arrow.Schema {
		element := arrow.StructOf(arrow.Field{Name: "x", Type: x})
		return arrow.NewSchema([]arrow.Field{{Name: "T", Type: arrow.FixedWidthTypes.Date32}, {Name: "l", Type: arrow.ListOf(element)}, {Name: "t", Type: x}}, nil)
	}
	nanoseconds := &arrow.TimestampType{Unit: arrow.Nanosecond}
	for _, c := range []struct {
		times []time.Time
		known *arrow.Schema
		want  string
	}{
		{
			[]time.Time{noEnd, {}, day1, year2}, nil, `t timestamp[us], l list<element: struct<x: timestamp[us]>>,
{"t":"9999-12-31T23:59:59.999999","l":[{"x":"9999-12-31T23:59:59.999999"}]}
{"t":null,"l":[{"x":"0001-01-01T00:00:00"}]}
{"t":"1970-01-01T00:00:00.000001","l":[{"x":"1970-01-01T00:00:00.000001"}]}
{"t":"0002-01-01T00:00:00","l":[{"x":"0002-01-01T00:00:00"}]}
`,
		},
		{
			[]time.Time{minimum, day1, maximum}, known(nanoseconds), `t timestamp[ns], l list<element: struct<x: timestamp[ns]>>,
{"t":"1677-09-21T00:12:43.145224192","l":[{"x":"1677-09-21T00:12:43.145224192"}]}
{"t":"1970-01-01T00:00:00.000001","l":[{"x":"1970-01-01T00:00:00.000001"}]}
{"t":"2262-04-11T23:47:16.854775807","l":[{"x":"2262-04-11T23:47:16.854775807"}]}
`,
		},
		{[]time.Time{day1}, known(arrow.FixedWidthTypes.Timestamp_us), `t timestamp[us, tz=UTC], l list<element: struct<x: timestamp[us, tz=UTC]>>,
{"t":"1970-01-01T00:00:00.000001Z","l":[{"x":"1970-01-01T00:00:00.000001Z"}]}
`},
		{[]time.Time{day1, {}, noEnd.Add(1)}, nil, `x.parquet, row group 0: row 3: column "t": the INT96 time 9999-12-31 23:59:59.999999001 has digits below a unit of timestamp[us]`},
		{
			[]time.Time{{}, day1.Add(1)},
			arrow.NewSchema([]arrow.Field{{Name: "t", Type: nanoseconds}}, nil),
			`row 2: column "l": field "x": the INT96 time 1970-01-01 00:00:00.000001001 has digits below a unit of timestamp[us]`,
		},
		{[]time.Time{minimum.Add(-1)}, known(nanoseconds), `row 1: column "t": the INT96 time 1677-09-21 00:12:43.145224191 is outside the range of timestamp[ns]`},
		{[]time.Time{day1, maximum.Add(1)}, known(nanoseconds), `row 2: column "t": the INT96 time 2262-04-11 23:47:16.854775808 is outside the range of timestamp[ns]`},
	} {
		in := fileOf(t, "x.parquet", string(tabletest.Int96File(t, c.times...)))
		in.Known = c.known
		got, err := content(t, in)
		if err != nil {
			got = err.Error()
		}
		if got = strings.ReplaceAll(got, ", \n", ",\n"); got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("reading %v: got\n%s\nwant\n%s", c.times, got, c.want)
		}
	}
	times := append(make([]time.Time, batchRows), day1.Add(1))
	in := fileOf(t, "x.parquet", string(tabletest.Int96File(t, times...)))
	if _, err := content(t, in); err == nil || !strings.Contains(err.Error(), `row 16385: column "t"`) {
		t.Errorf("read of a row after the first batch = %v, want an error that names row 16385", err)
	}
}
