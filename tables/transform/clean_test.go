package transform_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/transform"
)

var (
	named1 = arrow.Field{Name: "a", Type: integer}
	named2 = arrow.Field{Name: "b", Type: arrow.PrimitiveTypes.Float64}
	named3 = arrow.Field{Name: "c", Type: arrow.BinaryTypes.LargeString}
)

func TestClean(t *testing.T) {
	s := newStore(t)
	batch := rows(t, `[{"a":1,"b":1,"c":"x"},{"a":2,"b":null,"c":"x"},{"a":1,"b":3,"c":"y"},{"a":null,"b":4,"c":null},{"a":null,"b":5,"c":"z"}]`, named1, named2, named3)
	for _, c := range []struct {
		o    transform.CleanOptions
		want string
	}{
		{transform.CleanOptions{Where: "a = 1"}, `{"a":1,"b":1,"c":"x"},{"a":1,"b":3,"c":"y"}`},
		{transform.CleanOptions{Where: "a == 1 or b > 4"}, `{"a":1,"b":1,"c":"x"},{"a":1,"b":3,"c":"y"},{"a":null,"b":5,"c":"z"}`},
		{transform.CleanOptions{DropNulls: []string{"b"}}, `{"a":1,"b":1,"c":"x"},{"a":1,"b":3,"c":"y"},{"a":null,"b":4,"c":null},{"a":null,"b":5,"c":"z"}`},
		{transform.CleanOptions{DropAnyNull: true}, `{"a":1,"b":1,"c":"x"},{"a":1,"b":3,"c":"y"}`},
		{transform.CleanOptions{KeepFirstOf: []string{"a"}}, `{"a":1,"b":1,"c":"x"},{"a":2,"b":null,"c":"x"},{"a":null,"b":4,"c":null}`},
		// The other conditions come before.
		{transform.CleanOptions{KeepFirstOf: []string{"a"}, Where: "c <> 'x'", DropNulls: []string{"c"}}, `{"a":1,"b":3,"c":"y"},{"a":null,"b":5,"c":"z"}`},
		{transform.CleanOptions{Where: "false"}, ``},
	} {
		put(t, s, "in", tables.PutReplace, batch.NewSlice(0, 2))
		put(t, s, "in", tables.PutAppend, batch.NewSlice(2, 5)) // in the tail
		if err := s.Bucket("").SetMetadata(t.Context(), "in", tables.Metadata{"x": "y"}); err != nil {
			t.Fatal(err)
		}
		_, before := text(t, s, "in")
		c.o.Source = named("in")
		to := named("out")
		for _, target := range []*transform.TableName{&to, nil} {
			c.o.Target, c.o.Mode = target, tables.PutReplace
			r, err := transform.Clean(t.Context(), s, &c.o)
			name := "in"
			if target != nil {
				name = "out"
			}
			got, types := text(t, s, name)
			if err != nil || r != (transform.Result{SourceRows: 5, TargetRows: int64(strings.Count(c.want, "{"))}) || got != c.want || types != before {
				t.Errorf("%+v: %v, %v\n%s, want\n%s\n%s, want\n%s", c.o, r, err, got, c.want, types, before)
			}
		}
		table, err := s.Bucket("").Table(t.Context(), "in")
		if err != nil {
			t.Fatal(err)
		}
		if info, err := table.Info(t.Context()); err != nil || info.Metadata["x"] != "y" {
			t.Error(info, err)
		}
		versions, err := table.Versions(t.Context())
		if last := versions[len(versions)-1]; err != nil || last.Rows != int64(strings.Count(c.want, "{")) || last.Operation == "append" {
			t.Error(versions, err)
		}
	}
	put(t, s, "in", tables.PutReplace, rows(t, `[]`, named1, named2, named3))
	if r, err := transform.Clean(t.Context(), s, &transform.CleanOptions{Source: named("in"), DropAnyNull: true}); err != nil || r != (transform.Result{}) {
		t.Error(r, err)
	}
	for want, o := range map[string]transform.CleanOptions{
		"nothing to leave out": {}, "no such column": {DropNulls: []string{"x"}}, `"y"`: {KeepFirstOf: []string{"y"}}, "Parser error": {Where: "a >"},
	} {
		o.Source = named("in")
		if _, err := transform.Clean(t.Context(), s, &o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := transform.Clean(t.Context(), s, &transform.CleanOptions{Source: named("none"), DropAnyNull: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// interrupted does something behind each query that it runs.
type interrupted struct {
	tables.Engine
	then func(s *tables.Store, query int)
	n    int
}

func (i *interrupted) Query(ctx context.Context, s *tables.Store, sql string, o *tables.QueryOptions) (array.RecordReader, error) {
	r, err := i.Engine.Query(ctx, s, sql, o)
	if i.then != nil && err == nil {
		i.n++
		i.then(s, i.n)
	}
	return r, err
}

func interruptedStore(t *testing.T, then func(*tables.Store, int)) (*tables.Store, *interrupted) {
	engine := newEngine(t)
	i := &interrupted{Engine: engine}
	s, err := tables.Open(t.Context(), t.TempDir(), &tables.Options{Engine: i, FoldAge: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), engine.Close()); err != nil {
			t.Error(err)
		}
	})
	needSQL(t, s)
	i.then = then
	return s, i
}

// What is put while a table is cleaned stays: what goes to the tail, what is
// folded meanwhile, and what is put into files.
func TestCleanBesidePuts(t *testing.T) {
	for _, fold := range []bool{false, true} {
		late := rows(t, `[{"a":7}]`, named1)
		s, _ := interruptedStore(t, func(s *tables.Store, _ int) {
			put(t, s, "in", tables.PutAppend, late)
			if fold {
				if _, err := s.Fold(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				put(t, s, "in", tables.PutAppend, late)
			}
		})
		put(t, s, "in", tables.PutReplace, rows(t, `[{"a":1},{"a":2}]`, named1))
		r, err := transform.Clean(t.Context(), s, &transform.CleanOptions{Source: named("in"), Where: "a > 1"})
		got, _ := text(t, s, "in")
		if err != nil || r != (transform.Result{SourceRows: 2, TargetRows: 1}) || strings.Count(got, `{"a":2}`) != 1 || strings.Count(got, `{"a":7}`) != strings.Count(`{"a":7}`+map[bool]string{true: `{"a":7}`}[fold], "7") || strings.Contains(got, `{"a":1}`) {
			t.Error(fold, r, err, got)
		}
	}
}

// Where the rows were replaced meanwhile, the new ones are cleaned; in the end it
// is an error, and they are as they were put.
func TestCleanBesideReplaces(t *testing.T) {
	for _, times := range []int{1, 1000} {
		s, i := interruptedStore(t, func(s *tables.Store, n int) {
			if n <= times {
				put(t, s, "in", tables.PutReplace, rows(t, `[{"a":5},{"a":0}]`, named1))
			}
		})
		put(t, s, "in", tables.PutReplace, rows(t, `[{"a":1},{"a":2}]`, named1))
		_, err := transform.Clean(t.Context(), s, &transform.CleanOptions{Source: named("in"), Where: "a > 1"})
		got, _ := text(t, s, "in")
		if times == 1 && (err != nil || got != `{"a":5}`) || times > 1 && (!errors.Is(err, tables.ErrConflict) || got != `{"a":5},{"a":0}` || i.n != 10) {
			t.Error(times, err, got, i.n)
		}
	}
}

// Rows that are put once the bounds are known are in the result, or none of them
// is; earlier times, too.
func TestResampleBesidePuts(t *testing.T) {
	s, i := interruptedStore(t, func(s *tables.Store, n int) {
		if n == 1 {
			put(t, s, "in", tables.PutAppend, rows(t, `[{"t":"2025-12-31 12:00:00"},{"t":"2026-01-08 00:00:00"},{"t":"2029-01-01 00:00:00"}]`, stamps(arrow.Microsecond, "")))
		}
	})
	// The rows are in no order: in order, they need no bounds.
	put(t, s, "in", tables.PutReplace, rows(t, `[{"t":"2026-01-04 00:00:00"},{"t":"2026-01-03 00:00:00"}]`, stamps(arrow.Microsecond, "")))
	r, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: named("in"), Target: named("out"), Rule: "YE", TimeColumn: "t", Functions: []string{"size"}})
	got, _ := text(t, s, "out")
	if want := `{"size":1,"t":"2025-12-31T00:00:00"},{"size":3,"t":"2026-12-31T00:00:00"},{"size":0,"t":"2027-12-31T00:00:00"},{"size":0,"t":"2028-12-31T00:00:00"},{"size":1,"t":"2029-12-31T00:00:00"}`; err != nil || got != want || r != (transform.Result{SourceRows: 5, TargetRows: 5}) || i.n != 3 {
		t.Errorf("%v %v after %d queries: %s, want\n%s", r, err, i.n, got, want)
	}
}

// So are those beyond the times for which the zone's offsets were looked up.
func TestResampleBesideLaterPuts(t *testing.T) {
	s, i := interruptedStore(t, func(s *tables.Store, n int) {
		if n == 1 { // the first of August in Berlin
			put(t, s, "in", tables.PutAppend, rows(t, `[{"t":"2029-07-31 22:30:00Z"}]`, stamps(arrow.Microsecond, "Europe/Berlin")))
		}
	})
	put(t, s, "in", tables.PutReplace, rows(t, `[{"t":"2026-01-04 00:00:00Z"},{"t":"2026-01-03 00:00:00Z"}]`, stamps(arrow.Microsecond, "Europe/Berlin")))
	_, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: named("in"), Target: named("out"), Rule: "QE-JUL", TimeColumn: "t", Functions: []string{"size"}})
	got, _ := text(t, s, "out")
	if err != nil || !strings.HasSuffix(got, `{"size":0,"t":"2029-07-31T00:00:00+02:00"},{"size":1,"t":"2029-10-31T00:00:00+01:00"}`) || i.n != 3 {
		t.Error(err, got, i.n)
	}
}
