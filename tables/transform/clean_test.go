package transform_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/transform"
)

var (
	fieldA = arrow.Field{Name: "a", Type: integer}
	fieldB = arrow.Field{Name: "b", Type: arrow.PrimitiveTypes.Float64}
	fieldC = arrow.Field{Name: "c", Type: arrow.BinaryTypes.LargeString}
)

func TestClean(t *testing.T) {
	s := newStore(t)
	batch := rows(t, `[{"a":1,"b":1,"c":"x"},{"a":2,"b":null,"c":"x"},{"a":1,"b":3,"c":"y"},{"a":null,"b":4,"c":null},{"a":null,"b":5,"c":"z"}]`, fieldA, fieldB, fieldC)
	for _, c := range []struct {
		o    transform.CleanOptions
		want string
	}{
		{transform.CleanOptions{Where: "a = 1"}, `{"a":1,"b":1,"c":"x"},{"a":1,"b":3,"c":"y"}`},
		{transform.CleanOptions{Where: "a == 1 or b > 4"}, `{"a":1,"b":1,"c":"x"},{"a":1,"b":3,"c":"y"},{"a":null,"b":5,"c":"z"}`},
		{transform.CleanOptions{Where: "a = 1 -- the first", DropNulls: []string{"c"}, KeepFirstOf: []string{"a"}}, `{"a":1,"b":1,"c":"x"}`},
		{transform.CleanOptions{DropNulls: []string{"b"}}, `{"a":1,"b":1,"c":"x"},{"a":1,"b":3,"c":"y"},{"a":null,"b":4,"c":null},{"a":null,"b":5,"c":"z"}`},
		{transform.CleanOptions{DropAnyNull: true}, `{"a":1,"b":1,"c":"x"},{"a":1,"b":3,"c":"y"}`},
		{transform.CleanOptions{KeepFirstOf: []string{"a"}}, `{"a":1,"b":1,"c":"x"},{"a":2,"b":null,"c":"x"},{"a":null,"b":4,"c":null}`},
		// KeepFirstOf applies after the other conditions.
		{transform.CleanOptions{KeepFirstOf: []string{"a"}, Where: "c <> 'x'", DropNulls: []string{"c"}}, `{"a":1,"b":3,"c":"y"},{"a":null,"b":5,"c":"z"}`},
		{transform.CleanOptions{Where: "false"}, ``},
	} {
		put(t, s, "in", tables.PutReplace, batch.NewSlice(0, 2))
		put(t, s, "in", tables.PutAppend, batch.NewSlice(2, 5)) // stays in the tail
		must.Do(t, s.Bucket("").Table("in").ChangeMetadata(t.Context(), tables.MetadataChange{Set: tables.Metadata{"x": "y"}, Replace: true}))
		_, wantTypes := text(t, s, "in")
		c.o.Source = tableName("in")
		to := tableName("out")
		for _, target := range []*transform.TableName{&to, nil} {
			c.o.Target, c.o.Mode = target, tables.PutReplace
			r, err := transform.Clean(t.Context(), s, &c.o)
			name := "in"
			if target != nil {
				name = "out"
			}
			got, types := text(t, s, name)
			if err != nil || r != (transform.Result{SourceRows: 5, TargetRows: int64(strings.Count(c.want, "{"))}) || got != c.want || types != wantTypes {
				t.Errorf("Clean(%+v) = %+v, %v; got the rows\n%s, want\n%s; got the types\n%s, want\n%s", c.o, r, err, got, c.want, types, wantTypes)
			}
		}
		table := s.Bucket("").Table("in")
		if info, err := table.Info(t.Context()); err != nil || info.Metadata["x"] != "y" {
			t.Errorf("after Clean, the table's info is %+v (error %v), want the same metadata as before", info, err)
		}
		versions, err := table.Versions(t.Context())
		if last := versions[len(versions)-1]; err != nil || last.Rows != int64(strings.Count(c.want, "{")) || last.Operation == "append" {
			t.Errorf("after Clean, the versions are %+v (error %v), want a last version that replaced the rows", versions, err)
		}
	}
	put(t, s, "in", tables.PutReplace, rows(t, `[]`, fieldA, fieldB, fieldC))
	if r, err := transform.Clean(t.Context(), s, &transform.CleanOptions{Source: tableName("in"), DropAnyNull: true}); err != nil || r != (transform.Result{}) {
		t.Errorf("Clean() of an empty table = %+v, %v; want no rows", r, err)
	}
	for want, o := range map[string]transform.CleanOptions{
		"nothing to remove": {}, "no such column": {DropNulls: []string{"x"}}, `"y"`: {KeepFirstOf: []string{"y"}}, "Parser error": {Where: "a >"},
	} {
		o.Source = tableName("in")
		must.Fail(t, must.Err(transform.Clean(t.Context(), s, &o)), want, "Clean(%+v)", o)
	}
	if _, err := transform.Clean(t.Context(), s, &transform.CleanOptions{Source: tableName("none"), DropAnyNull: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Clean() of a missing table: error = %v, want %v", err, fs.ErrNotExist)
	}
}

// TestCleanNaN checks that a filter for large numbers keeps NaN, which is the largest number in SQL.
func TestCleanNaN(t *testing.T) {
	s := newStore(t)
	put(t, s, "t", tables.PutReplace, rows(t, `[{"b":1},{"b":"NaN"},{"b":1}]`, fieldB))
	r, err := transform.Clean(t.Context(), s, &transform.CleanOptions{Source: tableName("t"), Where: "b > 2"})
	if got, _ := text(t, s, "t"); err != nil || r.TargetRows != 1 || got != `{"b":"NaN"}` {
		t.Errorf("Clean() = %+v, %v, and the rows are %s; want only NaN", r, err, got)
	}
}

// hookedEngine is an engine that calls afterQuery after each successful query, with the number of queries so far.
type hookedEngine struct {
	tables.Engine
	afterQuery func(s *tables.Store, query int)
	queries    int
}

func (i *hookedEngine) Query(ctx context.Context, s *tables.Store, sql string, o *tables.QueryOptions) (array.RecordReader, error) {
	r, err := i.Engine.Query(ctx, s, sql, o)
	if i.afterQuery != nil && err == nil {
		i.queries++
		i.afterQuery(s, i.queries)
	}
	return r, err
}

func hookedStore(t *testing.T, afterQuery func(*tables.Store, int)) (*tables.Store, *hookedEngine) {
	i := &hookedEngine{Engine: newEngine(t)}
	s := openStore(t, i)
	needSQL(t, s)
	i.afterQuery = afterQuery
	return s, i
}

// TestCleanDuringPuts checks that Clean keeps rows that are put during the call, whether they stay in the
// tail or are folded into files.
func TestCleanDuringPuts(t *testing.T) {
	for _, fold := range []bool{false, true} {
		laterRow := rows(t, `[{"a":7}]`, fieldA)
		s, _ := hookedStore(t, func(s *tables.Store, _ int) {
			put(t, s, "in", tables.PutAppend, laterRow)
			if fold {
				must.Get(s.Fold(t.Context(), nil))(t)
				put(t, s, "in", tables.PutAppend, laterRow)
			}
		})
		put(t, s, "in", tables.PutReplace, rows(t, `[{"a":1},{"a":2}]`, fieldA))
		r, err := transform.Clean(t.Context(), s, &transform.CleanOptions{Source: tableName("in"), Where: "a > 1"})
		got, _ := text(t, s, "in")
		if err != nil || r != (transform.Result{SourceRows: 2, TargetRows: 1}) || strings.Count(got, `{"a":2}`) != 1 || strings.Count(got, `{"a":7}`) != strings.Count(`{"a":7}`+map[bool]string{true: `{"a":7}`}[fold], "7") || strings.Contains(got, `{"a":1}`) {
			t.Errorf("fold %v: Clean() = %+v, %v, and the rows are %s; want the row 2 and all rows 7", fold, r, err, got)
		}
	}
}

// TestCleanDuringReplacements replaces the rows during Clean, which must then clean the new rows. After too
// many replacements, Clean must fail and leave the rows unchanged.
func TestCleanDuringReplacements(t *testing.T) {
	for _, times := range []int{1, 1000} {
		s, i := hookedStore(t, func(s *tables.Store, n int) {
			if n <= times {
				put(t, s, "in", tables.PutReplace, rows(t, `[{"a":5},{"a":0}]`, fieldA))
			}
		})
		put(t, s, "in", tables.PutReplace, rows(t, `[{"a":1},{"a":2}]`, fieldA))
		_, err := transform.Clean(t.Context(), s, &transform.CleanOptions{Source: tableName("in"), Where: "a > 1"})
		got, _ := text(t, s, "in")
		if times == 1 && (err != nil || got != `{"a":5}`) || times > 1 && (!errors.Is(err, tables.ErrConflict) || got != `{"a":5},{"a":0}` || i.queries != 10) {
			t.Errorf("%d replacements: Clean() error = %v after %d queries, and the rows are %s; want only the row 5 after 1 replacement, and ErrConflict after 10 queries otherwise", times, err, i.queries, got)
		}
	}
}

// TestResampleDuringPuts puts rows after Resample has queried the bounds, some with earlier times. The result
// must contain all of them, in the right bins.
func TestResampleDuringPuts(t *testing.T) {
	s, i := hookedStore(t, func(s *tables.Store, n int) {
		if n == 1 {
			put(t, s, "in", tables.PutAppend, rows(t, `[{"t":"2025-12-31 12:00:00"},{"t":"2026-01-08 00:00:00"},{"t":"2029-01-01 00:00:00"}]`, timeField(arrow.Microsecond, "")))
		}
	})
	// The rows are unordered; ordered rows need no bounds.
	put(t, s, "in", tables.PutReplace, rows(t, `[{"t":"2026-01-04 00:00:00"},{"t":"2026-01-03 00:00:00"}]`, timeField(arrow.Microsecond, "")))
	r, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName("in"), Target: tableName("out"), Rule: "YE", TimeColumn: "t", Functions: []string{"size"}})
	got, _ := text(t, s, "out")
	if want := `{"size":1,"t":"2025-12-31T00:00:00"},{"size":3,"t":"2026-12-31T00:00:00"},{"size":0,"t":"2027-12-31T00:00:00"},{"size":0,"t":"2028-12-31T00:00:00"},{"size":1,"t":"2029-12-31T00:00:00"}`; err != nil || got != want || r != (transform.Result{SourceRows: 5, TargetRows: 5}) || i.queries != 3 {
		t.Errorf("Resample() = %+v, %v after %d queries, want 3; got %s, want\n%s", r, err, i.queries, got, want)
	}
}

// TestResampleDuringLaterPuts checks that Resample tries again if its statement lacks the zone's offset for
// a row that was put after Resample had queried the bounds.
func TestResampleDuringLaterPuts(t *testing.T) {
	s, i := hookedStore(t, func(s *tables.Store, n int) {
		if n == 1 { // the first of August in Berlin
			put(t, s, "in", tables.PutAppend, rows(t, `[{"t":"2029-07-31 22:30:00Z"}]`, timeField(arrow.Microsecond, "Europe/Berlin")))
		}
	})
	put(t, s, "in", tables.PutReplace, rows(t, `[{"t":"2026-01-04 00:00:00Z"},{"t":"2026-01-03 00:00:00Z"}]`, timeField(arrow.Microsecond, "Europe/Berlin")))
	_, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{Source: tableName("in"), Target: tableName("out"), Rule: "QE-JUL", TimeColumn: "t", Functions: []string{"size"}})
	got, _ := text(t, s, "out")
	if err != nil || !strings.HasSuffix(got, `{"size":0,"t":"2029-07-31T00:00:00+02:00"},{"size":1,"t":"2029-10-31T00:00:00+01:00"}`) || i.queries != 3 {
		t.Errorf("Resample() error = %v after %d queries, want 3; got %s, want an empty bin of July and a bin of October 2029 with 1 row at the end", err, i.queries, got)
	}
}
