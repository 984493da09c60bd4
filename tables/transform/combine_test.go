package transform_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/extensions"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/transform"
)

func TestCombine(t *testing.T) {
	s := newStore(t)
	put(t, s, "one", tables.PutReplace, rows(t, `[{"t":"2026-01-01 00:00:00Z","a":1,"c":"x"},{"t":"2026-01-02 00:00:00Z","a":2,"c":null}]`,
		timeField(arrow.Second, "Europe/Berlin"), arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int16}, fieldC))
	put(t, s, "two", tables.PutReplace, rows(t, `[{"c":"y","a":2.5,"t":"2026-01-02 00:00:00.5Z","z":true}]`,
		arrow.Field{Name: "c", Type: arrow.BinaryTypes.String}, floatField("a"), timeField(arrow.Millisecond, "Europe/Berlin"), arrow.Field{Name: "z", Type: arrow.FixedWidthTypes.Boolean}))
	put(t, s, "three", tables.PutReplace, rows(t, `[{"a":2,"c":"three"},{"a":2,"c":"again"},{"a":9,"c":"none"}]`, fieldA, fieldC))
	put(t, s, "texts", tables.PutReplace, rows(t, `[{"a":"2"}]`, arrow.Field{Name: "a", Type: arrow.BinaryTypes.String}))
	combine := func(how string, on []string, names ...string) (string, string, error) {
		o := &transform.CombineOptions{How: how, On: on, Target: tableName("out"), Mode: tables.PutReplace}
		for _, name := range names {
			o.Sources = append(o.Sources, tableName(name))
		}
		if _, err := transform.Combine(t.Context(), s, o); err != nil {
			return "", "", err
		}
		got, types := text(t, s, "out")
		return got, types, nil
	}
	got, types, err := combine("union", nil, "one", "two", "one")
	first := `{"a":1,"c":"x","t":"2026-01-01T01:00:00+01:00","z":null},{"a":2,"c":null,"t":"2026-01-02T01:00:00+01:00","z":null}`
	if want := first + `,{"a":2.5,"c":"y","t":"2026-01-02T01:00:00.5+01:00","z":true},` + first; err != nil || got != want {
		t.Errorf("union: error %v, got\n%s, want\n%s", err, got, want)
	}
	if want := "t timestamp[ms, tz=Europe/Berlin], a float64, c utf8, z bool"; types != want {
		t.Errorf("union: got the types %s, want %s", types, want)
	}
	got, types, err = combine("join", []string{"a"}, "one", "three")
	for _, want := range []string{`{"a":2,"c":null,"c_three":"three","t":"2026-01-02T01:00:00+01:00"}`, `{"a":2,"c":null,"c_three":"again","t":"2026-01-02T01:00:00+01:00"}`} {
		if !strings.Contains(got, want) {
			t.Errorf("join: error %v, got\n%s, want a row %s", err, got, want)
		}
	}
	if want := "a int16, t timestamp[s, tz=Europe/Berlin], c large_utf8, c_three large_utf8"; types != want || strings.Count(got, "{") != 2 {
		t.Errorf("join: got the types %s, want %s, with 2 rows\n%s", types, want, got)
	}
	// A source may also be the target, and may occur twice.
	r, err := transform.Combine(t.Context(), s, &transform.CombineOptions{How: "union", Sources: []transform.TableName{tableName("three"), tableName("three")}, Target: tableName("three"), Mode: tables.PutAppend})
	if got, _ := text(t, s, "three"); err != nil || r != (transform.Result{SourceRows: 6, TargetRows: 6}) || strings.Count(got, "{") != 9 {
		t.Errorf("union of a table with itself: result %+v, error %v, got\n%s, want 9 rows", r, err, got)
	}
	for _, c := range []struct {
		how, on, names, want string
	}{
		{"join", "", "one three", "needs the columns to join on"},
		{"join", "none", "one three", "no such column"},
		{"join", "a", "one texts", `column "a": it has type int16 in one table and utf8 in another`},
		{"union", "", "one texts", `column "a": it has type int16 in one table and utf8 in another`},
		{"union", "a", "one two", "must not name columns"},
		{"merge", "", "one two", "union or join"},
		{"union", "", "one", "two sources are needed"},
		{"join", "a", "three three three", "two columns with this name"},
	} {
		var on []string
		if c.on != "" {
			on = []string{c.on}
		}
		if _, _, err := combine(c.how, on, strings.Fields(c.names)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error = %v, want an error that contains %q", c, err, c.want)
		}
	}
	if _, _, err := combine("union", nil, "one", "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("union with a missing table: error = %v, want %v", err, fs.ErrNotExist)
	}
}

func floatField(name string) arrow.Field {
	return arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Float64}
}

// TestCombineExactNumbers checks that a union of integers and floats fails unless the common type
// represents all values exactly, and that joins compare exact values.
func TestCombineExactNumbers(t *testing.T) {
	s := newStore(t)
	types := map[string]arrow.DataType{
		"i8": arrow.PrimitiveTypes.Int8, "i32": arrow.PrimitiveTypes.Int32, "i64": arrow.PrimitiveTypes.Int64, "u64": arrow.PrimitiveTypes.Uint64,
		"f16": arrow.FixedWidthTypes.Float16, "f32": arrow.PrimitiveTypes.Float32, "f64": arrow.PrimitiveTypes.Float64,
		"us": &arrow.TimestampType{Unit: arrow.Microsecond}, "ns": &arrow.TimestampType{Unit: arrow.Nanosecond},
	}
	for _, c := range []struct {
		how, a, x, b, y, want string // result or error
	}{
		{"union", "i32", "16777217", "f32", "0.5", `float64 {"it's":16777217},{"it's":0.5}`},
		{"union", "f32", "0.5", "i64", "16777217", `float64 {"it's":0.5},{"it's":16777217}`},
		{"union", "i64", "16777217, 16777216, null", "f16", "0.5", `float64 {"it's":16777217},{"it's":16777216},{"it's":null},{"it's":0.5}`},
		{"union", "i64", "9007199254740992, null", "f16", "0.5", `float64 {"it's":9007199254740992},{"it's":null},{"it's":0.5}`},
		{"union", "i64", "9007199254740993", "f64", "0.5", `float64 cannot represent the integer 9007199254740993`},
		{"union", "i64", "9223372036854775807", "f32", "0.5", `column "it's": float64 cannot represent the integer 9223372036854775807`},
		{"union", "u64", "18446744073709551615", "f64", "0.5", `float64 cannot represent the integer 18446744073709551615`},
		{"union", "u64", "18446744073709551615", "i64", "-9223372036854775808", `decimal(20, 0) {"it's":"18446744073709551615"},{"it's":"-9223372036854775808"}`},
		{"union", "f16", "0.5", "f32", "0.1", `float64 {"it's":0.5},{"it's":0.10000000149011612}`},
		{"union", "u64", "9007199254740993, 9007199254740992", "f64", "9007199254740992, 1e300", `float64 cannot represent the integer 9007199254740993`},
		{"join", "i64", "16777217", "f32", "16777216", `int64 `},
		{"join", "i64", "16777217, 16777216, null", "f32", "16777216, \"NaN\", \"+Inf\", null", `int64 {"it's":16777216}`},
		{"join", "f32", "16777216, \"NaN\", \"+Inf\", null", "i64", "16777217, 16777216, null", `float32 {"it's":16777216}`},
		{"join", "u64", "9007199254740993, 9007199254740992", "f64", "9007199254740992, 1e300", `uint64 {"it's":9007199254740992}`},
		{"join", "f64", "9007199254740992, 1e300", "u64", "9007199254740993, 9007199254740992", `float64 {"it's":9007199254740992}`},
		{"join", "i64", "9007199254740993", "f64", "9007199254740992", `int64 `},
		{"join", "i64", "9007199254740992", "f64", "9007199254740992", `int64 {"it's":9007199254740992}`},
		{"join", "f64", "9007199254740992", "i64", "9007199254740993", `float64 `},
		{"join", "i8", "-5, 0, 1", "f16", "-5, 0.5, 0", `int8 {"it's":-5},{"it's":0}`},
		{"join", "u64", "18446744073709551615", "f64", "18446744073709551616", `uint64 `},
		{"join", "u64", "18446744073709551615, 7", "i64", "-1, 7", `uint64 {"it's":7}`},
		{"join", "i64", "1", "f64", "\"NaN\", \"Inf\", 1e300, 1", `int64 {"it's":1}`},
		{"join", "f32", "0.5, 16777216", "f64", "0.5, 16777217", `float32 {"it's":0.5}`},
		{"join", "us", `"2026-01-01", "2026-01-02"`, "ns", `"2026-01-01 00:00:00.000000001", "2026-01-02"`, `timestamp[us] {"it's":"2026-01-02T00:00:00"}`},
	} {
		for i, v := range []struct{ name, values string }{{c.a, c.x}, {c.b, c.y}} {
			var lines []string
			for value := range strings.SplitSeq(v.values, ", ") {
				lines = append(lines, `{"it's":`+value+"}")
			}
			put(t, s, fmt.Sprint("s", i), tables.PutReplace, rows(t, "["+strings.Join(lines, ",")+"]", arrow.Field{Name: "it's", Type: types[v.name]}))
		}
		o := &transform.CombineOptions{How: c.how, Sources: []transform.TableName{tableName("s0"), tableName("s1")}, Target: tableName("out"), Mode: tables.PutReplace}
		if c.how == "join" {
			o.On = []string{"it's"}
		}
		got := ""
		_, err := transform.Combine(t.Context(), s, o)
		if err == nil {
			json, columnTypes := text(t, s, "out")
			got = strings.TrimPrefix(columnTypes, "it's ") + " " + json
		}
		if got != c.want && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("case %+v: got %s, error %v", c, got, err)
		}
	}
}

// TestFixedBytes checks that SQL does not change byte strings of a fixed size, including UUIDs.
func TestFixedBytes(t *testing.T) {
	s := newStore(t)
	fields := []arrow.Field{
		timeField(arrow.Microsecond, ""),
		{Name: "u", Type: extensions.NewUUIDType()},
		{Name: "f", Type: &arrow.FixedSizeBinaryType{ByteWidth: 2}},
		{Name: "l", Type: arrow.ListOf(&arrow.FixedSizeBinaryType{ByteWidth: 2})},
	}
	const one = `{"f":"AAE=","l":["/wA=",null],"t":"2026-01-01T00:00:00","u":"00000000-0000-0000-0000-0000000000ff"}`
	in := rows(t, "["+one+`,{"t":"2026-01-01 00:00:05"}]`, fields...)
	put(t, s, "in", tables.PutReplace, in.NewSlice(0, 1))
	put(t, s, "in", tables.PutAppend, in.NewSlice(1, 2))
	_, types := text(t, s, "in")
	check := func(operation string, _ transform.Result, err error) {
		t.Helper()
		if got, gotTypes := text(t, s, "out"); err != nil || got != one || gotTypes != types {
			t.Errorf("%s: error %v, got\n%s\n%s, want\n%s\n%s", operation, err, got, gotTypes, one, types)
		}
	}
	to := tableName("out")
	r, err := transform.Clean(t.Context(), s, &transform.CleanOptions{Source: tableName("in"), Target: &to, DropNulls: []string{"f", "u"}, Mode: tables.PutReplace})
	check("clean", r, err)
	o := &transform.ResampleOptions{Source: tableName("in"), Target: to, TimeColumn: "t", Rule: "1min", Functions: []string{"first"}, Mode: tables.PutReplace}
	r, err = transform.Resample(t.Context(), s, o)
	check("resample", r, err)
	put(t, s, "none", tables.PutReplace, in.NewSlice(0, 0))
	put(t, s, "first", tables.PutReplace, in.NewSlice(0, 1))
	r, err = transform.Combine(t.Context(), s, &transform.CombineOptions{How: "union", Sources: []transform.TableName{tableName("first"), tableName("none")}, Target: to, Mode: tables.PutReplace})
	check("union", r, err)
	keys := rows(t, `[{"u":"00000000-0000-0000-0000-0000000000ff"}]`, fields[1])
	put(t, s, "keys", tables.PutReplace, keys)
	r, err = transform.Combine(t.Context(), s, &transform.CombineOptions{How: "join", On: []string{"u"}, Sources: []transform.TableName{tableName("in"), tableName("keys")}, Target: to, Mode: tables.PutReplace})
	if got, gotTypes := text(t, s, "out"); err != nil || got != one || !strings.HasPrefix(gotTypes, "u extension<arrow.uuid>") {
		t.Errorf("join: result %+v, error %v, got\n%s\n%s", r, err, got, gotTypes)
	}
}
