package transform_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	"github.com/go-partd/partd/tables/transform"
)

// rows returns a batch of the JSON rows.
func rows(t testing.TB, text string, fields ...arrow.Field) arrow.RecordBatch {
	t.Helper()
	for i := range fields {
		fields[i].Nullable = true
	}
	return tabletest.ParseRows(t, arrow.NewSchema(fields, nil), text)
}

func timeField(unit arrow.TimeUnit, zone string) arrow.Field {
	return arrow.Field{Name: "t", Type: &arrow.TimestampType{Unit: unit, TimeZone: zone}}
}

// text returns a table's rows as JSON, and its column types.
func text(t testing.TB, s *tables.Store, name string) (json, types string) {
	t.Helper()
	schema, batches := scan(t, s, name)
	var parts, columnTypes []string
	for _, b := range batches {
		j := must.Get(array.RecordToStructArray(b).MarshalJSON())(t)
		parts = append(parts, strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(string(j), "["), "]"), "\n", ""))
	}
	for _, f := range schema.Fields() {
		columnTypes = append(columnTypes, fmt.Sprint(f.Name, " ", f.Type))
	}
	return strings.Join(parts, ","), strings.Join(columnTypes, ", ")
}

func tableName(name string) transform.TableName { return transform.TableName{Name: name} }

// resample resamples the table "in" to the table "out", and returns its rows and types.
func resample(t testing.TB, s *tables.Store, o transform.ResampleOptions) (json, types string) {
	t.Helper()
	o.Source, o.Target, o.Mode, o.TimeColumn = tableName("in"), tableName("out"), tables.PutReplace, "t"
	if _, err := transform.Resample(t.Context(), s, &o); err != nil {
		t.Fatalf("Resample(%+v): %v", o, err)
	}
	return text(t, s, "out")
}

func TestResampleTypes(t *testing.T) {
	s := newStore(t)
	put(t, s, "in", tables.PutReplace, rows(t, `[{"t":"2026-01-01 10:00:00Z","u":18446744073709551615,"d":"1.50","h":0.5,"w":"2026-01-02","l":[1,2],"k":7,"b":true},
		{"t":"2026-01-01 10:00:02Z","u":1,"d":"2.25","h":1.5,"w":null,"l":null,"k":-3,"b":null}]`,
		timeField(arrow.Second, "Europe/Berlin"), arrow.Field{Name: "u", Type: arrow.PrimitiveTypes.Uint64}, arrow.Field{Name: "d", Type: &arrow.Decimal128Type{Precision: 5, Scale: 2}},
		arrow.Field{Name: "h", Type: arrow.FixedWidthTypes.Float16}, arrow.Field{Name: "w", Type: arrow.FixedWidthTypes.Date32},
		arrow.Field{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Int16)}, arrow.Field{Name: "k", Type: arrow.PrimitiveTypes.Int8}, arrow.Field{Name: "b", Type: arrow.FixedWidthTypes.Boolean}))
	for _, c := range []struct{ functions, columns, want, types string }{
		{
			"first", "u,d,h,w,l,k,b", `{"b":true,"d":"1.5","h":0.5,"k":7,"l":[1,2],"t":"2026-01-01T11:00:00+01:00","u":18446744073709551615,"w":"2026-01-02"}`,
			"t timestamp[s, tz=Europe/Berlin], u uint64, d decimal(5, 2), h float16, w date32, l list<item: int16, nullable>, k int8, b bool",
		},
		{"sum", "d,h,k,b", `{"b":1,"d":"3.75","h":2,"k":4,"t":"2026-01-01T11:00:00+01:00"}`, "t timestamp[s, tz=Europe/Berlin], d decimal(38, 2), h float64, k int64, b int64"},
		{"mean", "d,k", `{"d":1.875,"k":2,"t":"2026-01-01T11:00:00+01:00"}`, "t timestamp[s, tz=Europe/Berlin], d float64, k float64"},
		{"prod,nunique", "k", `{"k_nunique":2,"k_prod":-21,"t":"2026-01-01T11:00:00+01:00"}`, "t timestamp[s, tz=Europe/Berlin], k_prod float64, k_nunique int64"},
		{"ohlc", "k", `{"k_close":-3,"k_high":7,"k_low":-3,"k_open":7,"t":"2026-01-01T11:00:00+01:00"}`, "t timestamp[s, tz=Europe/Berlin], k_open int8, k_high int8, k_low int8, k_close int8"},
		{"size", "w", `{"size":2,"t":"2026-01-01T11:00:00+01:00"}`, "t timestamp[s, tz=Europe/Berlin], size int64"},
	} {
		got, types := resample(t, s, transform.ResampleOptions{Rule: "10s", Functions: strings.Split(c.functions, ","), Columns: strings.Split(c.columns, ",")})
		if got != c.want || types != c.types {
			t.Errorf("functions %s: got %s\n%s\nwant %s\n%s", c.functions, got, types, c.want, c.types)
		}
	}
	// A sum that overflows its type is an error, and leaves the target unchanged.
	_, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName("in"), Target: tableName("out"), Rule: "10s", TimeColumn: "t", Functions: []string{"sum"}, Columns: []string{"u"}, Mode: tables.PutReplace})
	if got, _ := text(t, s, "out"); err == nil || !strings.Contains(got, `"size":2`) {
		t.Errorf("Resample() with an overflowing sum: error = %v, and the target contains %s, want an error and the previous rows", err, got)
	}
	// Labels are as precise as the rule. Dates stay dates if bins are whole days.
	if got, types := resample(t, s, transform.ResampleOptions{Rule: "1500ms", Functions: []string{"size"}}); !strings.Contains(got, `11:00:01.5+01:00`) || !strings.Contains(types, "t timestamp[ms,") {
		t.Errorf("resampling to 1500ms yields %s\n%s, want labels in milliseconds", got, types)
	}
	o := transform.ResampleOptions{Source: tableName("in"), Target: tableName("seconds"), Rule: "10s", TimeColumn: "t", Functions: []string{"size"}}
	_, err = transform.Resample(t.Context(), s, &o)
	o.Rule, o.Mode = "1500ms", tables.PutAppend
	if _, appendErr := transform.Resample(t.Context(), s, &o); err != nil || appendErr == nil || !strings.Contains(appendErr.Error(), "has digits that are too small for timestamp[s, tz=Europe/Berlin]: round the values") {
		t.Errorf("append of labels in milliseconds to a table of seconds: got errors %v and %v, want advice", err, appendErr)
	}
	put(t, s, "in", tables.PutReplace, rows(t, `[{"t":"2024-02-29"},{"t":"2024-04-01"}]`, arrow.Field{Name: "t", Type: arrow.FixedWidthTypes.Date32}))
	for rule, want := range map[string]string{
		"ME": `{"size":1,"t":"2024-02-29"},{"size":0,"t":"2024-03-31"},{"size":1,"t":"2024-04-30"}`, "20D": `{"size":1,"t":"2024-02-29"},{"size":1,"t":"2024-03-20"}`,
		"QS": `{"size":1,"t":"2024-01-01"},{"size":1,"t":"2024-04-01"}`, "480h": `{"size":1,"t":"2024-02-29T00:00:00"},{"size":1,"t":"2024-03-20T00:00:00"}`,
	} {
		if got, _ := resample(t, s, transform.ResampleOptions{Rule: rule, Functions: []string{"size"}}); got != want {
			t.Errorf("rule %s: got %s, want\n%s", rule, got, want)
		}
	}
}

// TestResampleZones checks that days follow the zone: they may have 23 or 25 hours, or begin at one
// o'clock, or not exist.
func TestResampleZones(t *testing.T) {
	s, noSQL := newStore(t), withoutSQL(t)
	for _, c := range []struct{ zone, rows, want string }{
		{
			"Europe/Berlin", `[{"t":"2026-03-28 22:59:59Z"},{"t":"2026-03-28 23:00:00Z"},{"t":"2026-03-29 21:59:59Z"},{"t":"2026-03-29 22:00:00Z"}]`,
			`{"size":1,"t":"2026-03-28T00:00:00+01:00"},{"size":2,"t":"2026-03-29T00:00:00+01:00"},{"size":1,"t":"2026-03-30T00:00:00+02:00"}`,
		},
		{
			"America/New_York", `[{"t":"2026-11-02 04:59:59Z"},{"t":"2026-11-01 03:59:59Z"},{"t":"2026-11-02 05:00:00Z"}]`,
			`{"size":1,"t":"2026-10-31T00:00:00-04:00"},{"size":1,"t":"2026-11-01T00:00:00-04:00"},{"size":1,"t":"2026-11-02T00:00:00-05:00"}`,
		},
		{
			"America/Sao_Paulo", `[{"t":"2017-10-15 02:59:59Z"},{"t":"2017-10-15 03:00:00Z"}]`,
			`{"size":1,"t":"2017-10-14T00:00:00-03:00"},{"size":1,"t":"2017-10-15T01:00:00-02:00"}`,
		},
		{
			"America/Havana", `[{"t":"2025-11-02 03:59:59Z"},{"t":"2025-11-02 04:30:00Z"},{"t":"2025-11-02 05:30:00Z"}]`,
			`{"size":1,"t":"2025-11-01T00:00:00-04:00"},{"size":2,"t":"2025-11-02T00:00:00-04:00"}`,
		},
		{
			"Pacific/Apia", `[{"t":"2011-12-29 09:59:59Z"},{"t":"2011-12-30 09:59:59Z"},{"t":"2011-12-30 10:00:00Z"},{"t":"2012-01-01 10:00:00Z"}]`,
			`{"size":1,"t":"2011-12-28T00:00:00-10:00"},{"size":1,"t":"2011-12-29T00:00:00-10:00"},{"size":1,"t":"2011-12-31T00:00:00+14:00"},{"size":0,"t":"2012-01-01T00:00:00+14:00"},{"size":1,"t":"2012-01-02T00:00:00+14:00"}`,
		},
		{
			"Pacific/Kwajalein", `[{"t":"1993-08-20 12:00:00Z"},{"t":"1993-08-22 12:00:00Z"}]`,
			`{"size":1,"t":"1993-08-20T00:00:00-12:00"},{"size":0,"t":"1993-08-22T00:00:00+12:00"},{"size":1,"t":"1993-08-23T00:00:00+12:00"}`,
		},
	} {
		in := rows(t, c.rows, timeField(arrow.Microsecond, c.zone))
		put(t, s, "in", tables.PutReplace, in)
		putWith(t, noSQL, "in", tables.PutReplace, byTime, in)
		for _, store := range []*tables.Store{s, noSQL} {
			if got, _ := resample(t, store, transform.ResampleOptions{Rule: "D", Functions: []string{"size"}}); got != c.want {
				t.Errorf("zone %s: got %s, want\n%s", c.zone, got, c.want)
			}
		}
	}
	fields := []arrow.Field{timeField(arrow.Microsecond, "Pacific/Apia"), {Name: "x", Type: integer, Nullable: true}}
	put(t, s, "in", tables.PutReplace, rows(t, `[{"t":"2011-12-29 10:00:00Z","x":1},{"t":"2012-01-01 10:00:00Z","x":3}]`, fields...))
	for function, want := range map[string]string{
		"ffill":       `{"t":"2011-12-29T00:00:00-10:00","x":1},{"t":"2011-12-31T00:00:00+14:00","x":1},{"t":"2012-01-01T00:00:00+14:00","x":1},{"t":"2012-01-02T00:00:00+14:00","x":3}`,
		"interpolate": `{"t":"2011-12-29T00:00:00-10:00","x":1},{"t":"2011-12-31T00:00:00+14:00","x":1.6666666666666665},{"t":"2012-01-01T00:00:00+14:00","x":2.333333333333333},{"t":"2012-01-02T00:00:00+14:00","x":3}`,
	} {
		if got, _ := resample(t, s, transform.ResampleOptions{Rule: "D", Functions: []string{function}}); got != want {
			t.Errorf("%s: got %s, want\n%s", function, got, want)
		}
	}
}

// TestResampleNames checks that columns and tables may have names that are SQL keywords or occur in the
// generated statement.
func TestResampleNames(t *testing.T) {
	s := newStore(t)
	batch := rows(t, `[{"bin":"2026-01-01 00:00:01","t":1,"k":2,"c0":3,"a\"0":4,"r":5},{"bin":"2026-01-01 00:00:00","t":6,"k":7,"c0":8,"a\"0":9,"r":10}]`,
		arrow.Field{Name: "bin", Type: &arrow.TimestampType{}}, arrow.Field{Name: "t", Type: integer}, arrow.Field{Name: "k", Type: integer},
		arrow.Field{Name: "c0", Type: integer}, arrow.Field{Name: `a"0`, Type: integer}, arrow.Field{Name: "r", Type: integer})
	for _, name := range []string{"bins", "BINS", "range", `x"; select 1`, "select"} {
		put(t, s, name, tables.PutReplace, batch)
		r, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName(name), Target: tableName(name), Rule: "min", TimeColumn: "bin", Functions: []string{"last"}, Mode: tables.PutReplace})
		if err != nil {
			t.Errorf("Resample() of table %q: %v", name, err)
			continue
		}
		if got, _ := text(t, s, name); r != (transform.Result{SourceRows: 2, TargetRows: 1}) || got != `{"a\"0":4,"bin":"2026-01-01T00:00:00","c0":3,"k":2,"r":5,"t":1}` {
			t.Errorf("Resample() of table %q = %+v, and the rows are %s; want one row with the last values", name, r, got)
		}
		must.Do(t, s.Bucket("").Delete(t.Context(), name))
	}
}

var integer = arrow.PrimitiveTypes.Int64

// TestResampleNothing checks that a source without times yields no bins, but creates the target.
func TestResampleNothing(t *testing.T) {
	s := newStore(t)
	for _, text := range []string{`[]`, `[{"t":null,"x":1}]`} {
		put(t, s, "in", tables.PutReplace, rows(t, text, timeField(arrow.Microsecond, ""), arrow.Field{Name: "x", Type: integer}))
		r, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName("in"), Target: tableName("out"), Rule: "W", TimeColumn: "t", Functions: []string{"mean"}, Mode: tables.PutReplace})
		schema, batches := scan(t, s, "out")
		if err != nil || r.TargetRows != 0 || r.SourceRows != int64(strings.Count(text, "{")) || len(batches) != 0 || schema.NumFields() != 2 {
			t.Errorf("resampling %s: result %+v, error %v, %d batches with %d columns; want no rows in a table with 2 columns", text, r, err, len(batches), schema.NumFields())
		}
	}
}

func TestResampleErrors(t *testing.T) {
	s := newStore(t)
	put(t, s, "in", tables.PutReplace, rows(t, `[{"t":"2026-01-01 00:00:00","s":"a","x":1,"x_min":2},{"t":"9999-01-01 00:00:00","s":"a","x":1,"x_min":2}]`,
		timeField(arrow.Microsecond, ""), arrow.Field{Name: "s", Type: arrow.BinaryTypes.String}, arrow.Field{Name: "x", Type: integer}, arrow.Field{Name: "x_min", Type: integer}))
	put(t, s, "nanos", tables.PutReplace, rows(t, `[{"t":"2026-01-01 00:00:00Z","u":["2026-01-01 00:00:00Z"]}]`, timeField(arrow.Nanosecond, "UTC"), arrow.Field{Name: "u", Type: arrow.ListOf(timeField(arrow.Nanosecond, "UTC").Type)}))
	for _, c := range []struct {
		source, rule, time, functions, want string
		column                              string
	}{
		{"in", "D", "t", "mean", "but mean needs numbers", "s"},
		{"in", "D", "s", "size", "want a timestamp or date column", "s"},
		{"in", "D", "none", "size", "no such column", "none"},
		{"in", "D", "t", "average", `unknown function "average"`, ""},
		{"in", "D", "t", "", "no function given", ""},
		{"in", "s", "t", "size", "more than 1073741824 bins", ""},
		{"in", "", "t", "size", "it does not consist of numbers and units", ""},
		{"nanos", "10s", "t", "max", "would be truncated", "u"},
	} {
		var functions []string
		if c.functions != "" {
			functions = strings.Split(c.functions, ",")
		}
		_, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName(c.source), Target: tableName("out"), Rule: c.rule, TimeColumn: c.time, Functions: functions})
		var schema *tables.SchemaError
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &schema) != (c.column != "") || c.column != "" && schema.Column != c.column {
			t.Errorf("%+v: error = %v, want an error that contains %q", c, err, c.want)
		}
	}
	_, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName("in"), Target: tableName("out"), Rule: "D", TimeColumn: "t", Functions: []string{"size", "min"}, Columns: []string{"x", "size"}})
	if err == nil {
		t.Error("Resample() of a missing column returned no error")
	}
	if _, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName("none"), Target: tableName("out"), SQL: "SELECT 1"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Resample() of a missing table: error = %v, want %v", err, fs.ErrNotExist)
	}
	if _, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName("in"), Target: tableName("out"), SQL: "SELECT 1", Rule: "D"}); err == nil {
		t.Error("Resample() with both SQL and a rule returned no error")
	}
	if _, err := s.Bucket("").Table("out").Info(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a failed Resample() created the target table:", err)
	}
}

// TestZonedNanoseconds checks that times in nanoseconds with a zone, which SQL lacks, have the same results as
// without a zone: in data files, in the tail (rows not yet in data files), and in both.
func TestZonedNanoseconds(t *testing.T) {
	s := newStore(t)
	const first, second = `[{"t":"2026-01-03 05:06:07.123456789","u":"1970-01-01 00:00:00.000000001"},{"t":"2026-01-03 05:06:07.123456791","u":"1970-01-01 00:00:00.000000003"}]`,
		`[{"t":"2026-01-03 05:06:07.123457788","u":"1970-01-01 00:00:00.000000002"},{"t":null,"u":null}]`
	zoned := strings.NewReplacer(`","`, `Z","`, `"}`, `Z"}`)
	for _, fold := range []bool{false, true} {
		for _, rule := range []string{"ns", "4ns", "us", "1us500ns", "D", "W"} {
			var got [2]string
			for i, zone := range []string{"", "UTC"} {
				first, second := first, second
				if zone != "" {
					first, second = zoned.Replace(first), zoned.Replace(second)
				}
				in := []arrow.Field{timeField(arrow.Nanosecond, zone), {Name: "u", Type: timeField(arrow.Nanosecond, zone).Type}}
				put(t, s, "in", tables.PutReplace, rows(t, first, in...))
				if fold {
					must.Get(s.Fold(t.Context(), nil))(t)
				}
				put(t, s, "in", tables.PutAppend, rows(t, second, in...))
				json, _ := resample(t, s, transform.ResampleOptions{Rule: rule, Functions: []string{"first", "last", "min", "max", "count", "nunique"}})
				got[i] = strings.ReplaceAll(json, "Z", "")
			}
			if got[0] != got[1] {
				t.Errorf("rule %s: got %s with a zone, but without a zone\n%s", rule, got[1], got[0])
			}
		}
	}
}

// TestInvalidPandasMetadata checks that invalid pandas metadata, which other programs may write, causes no
// error.
func TestInvalidPandasMetadata(t *testing.T) {
	s := newStore(t)
	for _, value := range []string{"", "x", "null", "[]", "{}", `{"columns":3,"index_columns":{}}`, `{"columns":[3,{"field_name":4},{}],"index_columns":[{}]}`, `{"dtypes":[],"arrow":{}}`} {
		in := rows(t, `[{"t":"2026-01-03 05:06:07","x":1}]`, timeField(arrow.Microsecond, ""), arrow.Field{Name: "x", Type: integer})
		m := arrow.MetadataFrom(map[string]string{"pandas": value, "partd_go.pandas": value})
		put(t, s, "in", tables.PutReplace, array.NewRecordBatch(arrow.NewSchema(in.Schema().Fields(), &m), in.Columns(), 1))
		if got, _ := resample(t, s, transform.ResampleOptions{Rule: "D", Functions: []string{"max"}}); !strings.Contains(got, `"x":1`) {
			t.Errorf("with the metadata %q, got %s, want x = 1", value, got)
		}
	}
}

func TestRules(t *testing.T) {
	s := newStore(t)
	put(t, s, "in", tables.PutReplace, rows(t, `[{"t":"2026-01-03 05:06:07.123456789"},{"t":"2026-01-03 05:06:07.123457789"}]`, timeField(arrow.Nanosecond, "")))
	for alias, rule := range map[string]string{
		"T": "min", "7S": "7s", "L": "ms", "5U": "5us", "500N": "500ns", "H": "h", "M": "ME", "2Q": "2QE-DEC", "Q-FEB": "QE-FEB", "Y": "YE", "A": "YE-DEC", "A-JUN": "YE-JUN",
		"AS": "YS", "AS-APR": "YS-APR-", "W": "W-SUN", "1h30min": "90min", "0.5min": "30s", " 2 h ": "120min", "1.5ms": "1500us",
	} {
		rule = strings.TrimSuffix(rule, "-")
		got, _ := resample(t, s, transform.ResampleOptions{Rule: alias, Functions: []string{"size"}})
		if want, _ := resample(t, s, transform.ResampleOptions{Rule: rule, Functions: []string{"size"}}); got != want {
			t.Errorf("rule %s: got %s, want the rows of rule %s:\n%s", alias, got, rule, want)
		}
	}
	for _, rule := range []string{"0s", "-1s", "s1", "1", "D1", "1D12h", "1.5D", "2W-XXX", "W-JAN", "MS-FEB", "h-MON", "0.1ns", "300000000000h", "2000000W", "10 s x", "1h 1D", "99999999999999999999s", strings.Repeat("1s", 1<<20) + "x"} {
		_, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName("in"), Target: tableName("no"), Rule: rule, TimeColumn: "t", Functions: []string{"size"}})
		if err == nil || !strings.Contains(err.Error(), "rule ") || len(err.Error()) > 400 {
			t.Errorf("rule %.40s: error = %v, want a short error about the rule", rule, err)
		}
	}
}
