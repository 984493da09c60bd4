package transform_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

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

// TestCombineIsExact checks that numbers of all types stay exact in a union, and compare exactly in a
// join.
func TestCombineIsExact(t *testing.T) {
	s := newStore(t)
	column := func(name string, kind arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: kind, Nullable: true}
	}
	put(t, s, "ints", tables.PutReplace, rows(t, `[{"k":16777217,"a":1},{"k":16777216,"a":2},{"k":null,"a":3}]`, column("k", arrow.PrimitiveTypes.Int64), column("a", arrow.PrimitiveTypes.Int8)))
	put(t, s, "singles", tables.PutReplace, rows(t, `[{"k":16777216,"b":1},{"k":"NaN","b":2},{"k":"+Inf","b":3},{"k":null,"b":4}]`, column("k", arrow.PrimitiveTypes.Float32), column("b", arrow.PrimitiveTypes.Int8)))
	put(t, s, "halves", tables.PutReplace, rows(t, `[{"k":0.5,"b":1}]`, column("k", arrow.FixedWidthTypes.Float16), column("b", arrow.PrimitiveTypes.Int8)))
	put(t, s, "large", tables.PutReplace, rows(t, `[{"k":9007199254740993,"a":1},{"k":9007199254740992,"a":2}]`, column("k", arrow.PrimitiveTypes.Uint64), column("a", arrow.PrimitiveTypes.Int8)))
	put(t, s, "doubles", tables.PutReplace, rows(t, `[{"k":9007199254740992,"b":1},{"k":1e300,"b":2}]`, column("k", arrow.PrimitiveTypes.Float64), column("b", arrow.PrimitiveTypes.Int8)))
	combine := func(how, names string) (string, error) {
		o := &transform.CombineOptions{How: how, Target: tableName("out"), Mode: tables.PutReplace}
		if how == "join" {
			o.On = []string{"k"}
		}
		for _, name := range strings.Fields(names) {
			o.Sources = append(o.Sources, tableName(name))
		}
		if _, err := transform.Combine(t.Context(), s, o); err != nil {
			return "", err
		}
		got, _ := text(t, s, "out")
		return got, nil
	}
	for names, want := range map[string]string{
		"join ints singles": `{"a":2,"b":1,"k":16777216}`, "join singles ints": `{"a":2,"b":1,"k":16777216}`,
		"join large doubles": `{"a":2,"b":1,"k":9007199254740992}`, "join doubles large": `{"a":2,"b":1,"k":9007199254740992}`,
		"union ints halves": `{"a":1,"b":null,"k":16777217},{"a":2,"b":null,"k":16777216},{"a":3,"b":null,"k":null},{"a":null,"b":1,"k":0.5}`,
	} {
		how, sources, _ := strings.Cut(names, " ")
		if got, err := combine(how, sources); err != nil || got != want {
			t.Errorf("%s: error %v, got\n%s, want\n%s", names, err, got, want)
		}
	}
	if _, err := combine("union", "large doubles"); err == nil || !strings.Contains(err.Error(), "float64") || !strings.Contains(err.Error(), "9007199254740993") {
		t.Errorf("union with a number that float64 cannot represent: error = %v, want an error that names the number", err)
	}
}
