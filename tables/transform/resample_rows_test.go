package transform_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	"github.com/go-partd/partd/tables/transform"
)

// TestResampled checks that Resampled returns the same rows that Resample puts, whether they are computed in
// time order, by SQL, or in time order at first and then by SQL. It also checks texts that are used after
// their batch was released, a fill function, and an SQL statement.
func TestResampled(t *testing.T) {
	s := newStore(t)
	const count = 600_000
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		timeField(arrow.Microsecond, "America/St_Johns"), {Name: "x", Type: integer, Nullable: true}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil))
	addRow := func(timestamp time.Time, x int64) {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(timestamp.UnixMicro()))
		b.Field(1).(*array.Int64Builder).Append(x)
		b.Field(2).(*array.StringBuilder).Append(fmt.Sprint("text of ", timestamp))
	}
	midnight := time.Date(2006, 10, 29, 2, 31, 0, 0, time.UTC) // in this zone, 00:01 was followed by 23:01 on the 28th
	for i := range int64(count) {
		addRow(midnight.Add(time.Duration(i-count)*time.Second), i)
	}
	addRow(midnight.Add(9*time.Minute), 4)
	addRow(midnight.Add(3*time.Hour), 8)
	in := b.NewRecordBatch()
	putByTime(t, s, in.NewSlice(0, count/2), in.NewSlice(count/2, count/2+100), in.NewSlice(count/2+100, in.NumRows()))
	for _, o := range []transform.ResampleOptions{
		{Rule: "min", Functions: []string{"mean", "size"}, Columns: []string{"x"}},
		{Rule: "100h", Functions: []string{"first", "last"}, Columns: []string{"s"}},
		{Rule: "D", Functions: []string{"sum", "size"}, Columns: []string{"x"}},
		{Rule: "h", Functions: []string{"median"}, Columns: []string{"x"}},
		{Rule: "h", Functions: []string{"ffill"}, Columns: []string{"s"}},
	} {
		o.TimeIndex = true
		want, wantTypes := resample(t, s, o)
		o.Source, o.TimeColumn = tableName("in"), "t"
		got, types := readResampled(t, s, o)
		if got != want || types != wantTypes || len(want) == 0 {
			t.Errorf("%+v: Resampled() returns other rows (%d bytes, types %s) than Resample() (%d bytes, types %s)", o, len(got), types, len(want), wantTypes)
		}
	}
	if got, _ := readResampled(t, s, transform.ResampleOptions{Source: tableName("in"), SQL: `SELECT count(*) AS n FROM "in"`}); got != fmt.Sprintf(`{"n":%d}`, count+2) {
		t.Errorf("Resampled() with SQL yields %s, want the number of rows", got)
	}
	if _, err := transform.Resampled(t.Context(), s, &transform.ResampleOptions{Source: tableName("in"), Rule: "min", TimeColumn: "x", Functions: []string{"mean"}}); !errors.As(err, new(*tables.OpError)) {
		t.Errorf("Resampled() with a wrong time column: error = %v, want an OpError", err)
	}
}

// readResampled puts the rows of Resampled into a table, and returns the table's content.
func readResampled(t *testing.T, s *tables.Store, o transform.ResampleOptions) (json, types string) {
	t.Helper()
	r := must.Get(transform.Resampled(t.Context(), s, &o))(t)
	defer r.Release()
	must.Get(s.Bucket("").Table("read").Put(t.Context(), r, tables.PutReplace, nil))(t)
	return text(t, s, "read")
}

// TestResampledOutOfRange checks that both Resample and Resampled return an error for a date outside the
// range of timestamps, even if it is in the last row.
func TestResampledOutOfRange(t *testing.T) {
	s := newStore(t)
	date := arrow.Field{Name: "t", Type: arrow.FixedWidthTypes.Date32, Nullable: true}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{date}, nil))
	dates := make([]arrow.Date32, 600_001)
	for i := range dates {
		dates[i] = arrow.Date32(i)
	}
	dates[len(dates)-1] = 120_000_000
	b.Field(0).(*array.Date32Builder).AppendValues(dates, nil)
	in := b.NewRecordBatch()
	putByTime(t, s, in)
	o := transform.ResampleOptions{Source: tableName("in"), Target: tableName("out"), Rule: "D", TimeColumn: "t", Functions: []string{"size"}}
	if _, err := transform.Resample(t.Context(), s, &o); err == nil {
		t.Error("Resample() returned no error")
	}
	r := must.Get(transform.Resampled(t.Context(), s, &o))(t)
	if rows, err := tabletest.CountRows(r); rows == 0 || !errors.As(err, new(*tables.OpError)) || !strings.Contains(err.Error(), "outside the range of timestamps") {
		t.Errorf("Resampled() yields %d rows and the error %v, want some rows and then an error about the range", rows, err)
	}
}

// TestResampledOverflow checks that Resampled reports a sum that overflows, naming the column, whether it visits the
// rows in time order or uses SQL.
func TestResampledOverflow(t *testing.T) {
	for _, c := range []struct {
		typ   arrow.DataType
		value string
	}{{arrow.PrimitiveTypes.Int64, "9223372036854775807"}, {arrow.PrimitiveTypes.Int64, "-9223372036854775808"}, {arrow.PrimitiveTypes.Uint64, "18446744073709551615"}} {
		for order, times := range map[string][]int{"in order": {1, 2}, "late": {2, 1}} {
			s := newStore(t)
			put(t, s, "in", tables.PutReplace, rows(t, fmt.Sprintf(`[{"t":"2024-01-01 00:00:0%d","x":%s},{"t":"2024-01-01 00:00:0%d","x":%s}]`, times[0], c.value, times[1], c.value),
				timeField(arrow.Microsecond, ""), arrow.Field{Name: "x", Type: c.typ}))
			o := transform.ResampleOptions{Source: tableName("in"), Rule: "D", TimeColumn: "t", Functions: []string{"sum"}}
			r, err := transform.Resampled(t.Context(), s, &o)
			n := int64(0)
			if err == nil {
				n, err = tabletest.CountRows(r)
			}
			if want := fmt.Sprintf("column \"x\": the sum of a bin's values overflows %s", c.typ); n > 0 || err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Resampled() of %s, rows %s: %d rows, error %v; want the error %s", c.value, order, n, err, want)
			}
		}
	}
}

// TestResampleByKeys checks that the rows of a table with keys are grouped by them, unless By names other columns, and
// that a table of bars keeps the keys, so that it can be resampled again.
func TestResampleByKeys(t *testing.T) {
	s := newStore(t)
	dictionary := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "sym", Type: dictionary}, timeField(arrow.Microsecond, ""), {Name: "x", Type: integer, Nullable: true}, {Name: "venue", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil))
	for i, row := range []string{"B0", "A1X", "B1Y", "A1Y", "A4X", "B2X"} { // symbol, hour, and venue or null
		must.Do(t, b.Field(0).(*array.BinaryDictionaryBuilder).AppendString(row[:1]))
		b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(time.Duration(row[1]-'0') * time.Hour / time.Microsecond))
		b.Field(2).(*array.Int64Builder).Append(int64(i))
		if row[2:] == "" {
			b.Field(3).AppendNull()
		} else {
			b.Field(3).(*array.StringBuilder).Append(row[2:])
		}
	}
	putWith(t, s, "in", tables.PutError, &tables.PutOptions{Settings: &tables.Settings{Time: "t", Keys: []string{"sym"}}}, b.NewRecordBatch())
	for i, c := range []struct {
		rule      string
		by        []string
		functions []string
		want      string
		keys      string
	}{
		{"h", nil, []string{"sum(x)"}, "0 B 0, 1 A 4, 1 B 2, 2 A 0, 2 B 5, 3 A 0, 4 A 4", "[sym]"},
		{"h", []string{}, []string{"sum(x)"}, "0 0, 1 6, 2 5, 3 0, 4 4", "[]"},
		{"2h", []string{"sym", "venue"}, []string{"first(x)"}, "0 A X 1, 0 A Y 3, 0 B Y 2, 0 B (null) 0, 2 A X (null), 2 B X 5, 4 A X 4", "[]"},
		{"D", []string{"venue"}, []string{"max(x)", "size"}, "0 X 5 3, 0 Y 3 2, 0 (null) 0 1", "[]"},
	} {
		target := fmt.Sprint("bars", i)
		o := transform.ResampleOptions{Source: tableName("in"), Target: tableName(target), TimeColumn: "t", Rule: c.rule, By: c.by, Functions: c.functions}
		read, types := readResampled(t, s, o)
		must.Get(transform.Resample(t.Context(), s, &o))(t)
		if put, putTypes := text(t, s, target); put != read || putTypes != types {
			t.Errorf("%+v: Resample() puts\n%s\nof types %s, want the rows of Resampled()\n%s\nof types %s", o, put, putTypes, read, types)
		}
		_, batches := scan(t, s, target)
		var got []string
		for row := range int(batches[0].NumRows()) {
			hour := int64(batches[0].Column(0).(*array.Timestamp).Value(row)) / time.Hour.Microseconds()
			texts := []string{fmt.Sprint(hour)}
			for _, column := range batches[0].Columns()[1:] {
				texts = append(texts, column.ValueStr(row))
			}
			got = append(got, strings.Join(texts, " "))
		}
		settings := must.Get(s.Bucket("").Table(target).Settings(t.Context()))(t)
		if keys := fmt.Sprint(settings.Keys); strings.Join(got, ", ") != c.want || keys != c.keys {
			t.Errorf("%+v: bins are %q, with keys %s, want %q with keys %s", o, got, keys, c.want, c.keys)
		}
	}
	for want, o := range map[string]transform.ResampleOptions{
		`ffill cannot group by "sym"`:                {Functions: []string{"ffill"}},
		`column "y": the table has no such column`:   {Functions: []string{"size"}, By: []string{"y"}},
		"the result would have two columns":          {Functions: []string{"nunique(sym)"}},
		"two columns with this name: choose other c": {Functions: []string{"size"}, By: []string{"t"}},
	} {
		o.Source, o.TimeColumn, o.Rule = tableName("in"), "t", "h"
		must.Fail(t, must.Err(transform.Resampled(t.Context(), s, &o)), want, "Resampled(%+v)", o)
	}
}

// ticks returns n rows one second apart. Column x contains the row's number. times[i] overrides the
// time of row i, in seconds; -1 means null.
func ticks(n int, times map[int]int) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{
		{Name: "t", Type: &arrow.TimestampType{Unit: arrow.Microsecond}, Nullable: true}, {Name: "x", Type: integer, Nullable: true},
	}, nil))
	defer b.Release()
	builder := b.Field(0).(*array.TimestampBuilder)
	for i := range n {
		second, hasOther := times[i]
		switch {
		case !hasOther:
			builder.Append(arrow.Timestamp(i * 1e6))
		case second < 0:
			builder.AppendNull()
		default:
			builder.Append(arrow.Timestamp(second * 1e6))
		}
		b.Field(1).(*array.Int64Builder).Append(int64(i))
	}
	return b.NewRecordBatch()
}

// TestResampleLateRow checks tables whose rows are out of order or have no time. Without a time column in
// the settings, SQL must resample from the beginning, even after many bins were complete. With a time
// column, the same rows must yield the same bins without SQL.
func TestResampleLateRow(t *testing.T) {
	const count = 20_000
	engine, noSQL, ordered := newStore(t), withoutSQL(t), withoutSQL(t)
	for name, times := range map[string]map[int]int{
		"last": {count - 1: 5}, "first": {0: count}, "second": {1: 0, 2: 0, 3: 1}, "null": {count / 2: -1}, "null first": {0: -1},
	} {
		batch := ticks(count, times)
		hasTime := make([]bool, count)
		for i := range hasTime {
			hasTime[i] = batch.Column(0).IsValid(i)
		}
		withTimes := must.Get(take.Where(batch, hasTime))(t)
		putByTime(t, ordered, withTimes)
		for _, split := range []int64{0, count} { // all in the tail, or all in a file
			for _, s := range []*tables.Store{engine, noSQL} {
				put(t, s, "in", tables.PutReplace, batch.NewSlice(0, split))
				put(t, s, "in", tables.PutAppend, batch.NewSlice(split, count))
			}
			for _, functions := range []string{"sum,first,last,size", "median"} {
				o := transform.ResampleOptions{Rule: "s", Functions: strings.Split(functions, ","), Columns: []string{"x"}, TimeIndex: true}
				want, _ := resample(t, ordered, o)
				got, _ := resample(t, engine, o)
				o.Source, o.Target, o.TimeColumn, o.Mode = tableName("in"), tableName("out"), "t", tables.PutReplace
				reread, _ := readResampled(t, engine, o)
				if got != want || reread != want || len(want) == 0 {
					t.Errorf("%s, %s: the rows of Resample (%d bytes) or Resampled (%d bytes) differ from the expected rows (%d bytes)", name, functions, len(got), len(reread), len(want))
				}
				if name == "second" { // already in order, with equal times
					continue
				}
				if _, err := transform.Resample(t.Context(), noSQL, &o); !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("%s: Resample() without SQL: error = %v, want %v", name, err, errors.ErrUnsupported)
				}
				if _, err := transform.Resampled(t.Context(), noSQL, &o); !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("%s: Resampled() without SQL: error = %v, want %v", name, err, errors.ErrUnsupported)
				}
			}
		}
	}
}

// TestResampleLimits checks that SQL resamples if a bin has more values than the limit, even after other
// bins were complete, and if Resampled would buffer too many bins.
func TestResampleLimits(t *testing.T) {
	const early, count = 20_000, 2<<20 + 20_001
	equal := map[int]int{}
	for i := early; i < count; i++ {
		equal[i] = early
	}
	for name, c := range map[string]struct {
		batch           arrow.RecordBatch
		functions, last string
	}{
		"values": {ticks(count, equal), "median", `{"t":"1970-01-01T05:33:20","x":1068576}`}, // the median of the numbers 20,000 to count-1
		"bins":   {ticks(2, map[int]int{1: 200_000}), "mean,sum,min,max,first,last,count,prod,ohlc", `"x_sum":1}`},
	} {
		engine, noSQL := newStore(t), withoutSQL(t)
		o := transform.ResampleOptions{Rule: "s", Functions: strings.Split(c.functions, ",")}
		for _, s := range []*tables.Store{engine, noSQL} {
			if name == "values" { // with a time column in the settings
				putByTime(t, s, c.batch)
			} else {
				put(t, s, "in", tables.PutReplace, c.batch)
			}
		}
		want, _ := resample(t, engine, o)
		if !strings.HasSuffix(want, c.last) {
			t.Errorf("%s: the rows end with %s, want %s", name, want[len(want)-200:], c.last)
		}
		o.Source, o.Target, o.TimeColumn, o.Mode, o.TimeIndex = tableName("in"), tableName("out"), "t", tables.PutReplace, true
		if got, _ := readResampled(t, engine, o); got != want {
			t.Errorf("%s: the rows of Resampled (%d bytes) differ from those of Resample (%d bytes)", name, len(got), len(want))
		}
		if _, err := transform.Resample(t.Context(), noSQL, &o); name == "values" && !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: Resample() without SQL: error = %v, want %v", name, err, errors.ErrUnsupported)
		}
		if _, err := transform.Resampled(t.Context(), noSQL, &o); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: Resampled() without SQL: error = %v, want %v", name, err, errors.ErrUnsupported)
		}
	}
}

// TestResampleFarApart checks that times in nanoseconds whose difference overflows int64 fall into the same
// bins as times in microseconds, and that too many bins are an error.
func TestResampleFarApart(t *testing.T) {
	s := newStore(t)
	for zone, suffix := range map[string]string{"": "", "Europe/Berlin": "Z"} {
		for _, unit := range []arrow.TimeUnit{arrow.Microsecond, arrow.Nanosecond} {
			put(t, s, unit.String(), tables.PutReplace, rows(t, `[{"t":"2250-01-01 00:00:00`+suffix+`","x":2},{"t":"1700-01-01 00:00:00`+suffix+`","x":1}]`, timeField(unit, zone), arrow.Field{Name: "x", Type: integer}))
		}
		for _, rule := range []string{"240000h", "s", "36500D", "20YE", "500W", "10000B"} {
			for _, function := range []string{"nearest", "interpolate", "max"} {
				resampleUnit := func(unit arrow.TimeUnit) (string, error) {
					o := transform.ResampleOptions{Source: tableName(unit.String()), Target: tableName("out"), Rule: rule, TimeColumn: "t", Functions: []string{function}, Mode: tables.PutReplace}
					if _, err := transform.Resample(t.Context(), s, &o); err != nil {
						return "", err
					}
					text, _ := text(t, s, "out")
					return text, nil
				}
				want, err := resampleUnit(arrow.Microsecond)
				if (err != nil) != (rule == "s") || (want == "") != (rule == "s") {
					t.Errorf("rule %s, function %s, microseconds: rows %s, error %v; want an error only for rule s", rule, function, want, err)
				}
				got, err := resampleUnit(arrow.Nanosecond)
				if (err != nil && strings.Contains(err.Error(), "more than 1073741824 bins")) != (rule == "s") || got != want {
					t.Errorf("rule %s, zone %q, function %s, nanoseconds: error %v, rows %s\nwant %s", rule, zone, function, err, got, want)
				}
			}
		}
	}
}
