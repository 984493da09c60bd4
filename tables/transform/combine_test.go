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
