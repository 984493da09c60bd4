//go:build cgo

package duck_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestAtSnapshot queries a snapshot that exists in two buckets, but not in a third.
func TestAtSnapshot(t *testing.T) {
	s := newStore(t, nil)
	for _, bucket := range []string{"", "it's", "c"} {
		put(t, s, bucket, "t", numbers(0, 2))
		if bucket == "c" {
			break
		}
		snapshot(t, s, bucket, "a \"b\"'")
		put(t, s, bucket, "t", numbers(100, 105))
	}
	must.Do(t, s.Bucket("it's").Delete(t.Context(), "t"))
	o := &tables.QueryOptions{At: tables.AtSnapshot("a \"b\"'")}
	expect(t, s, `SELECT (SELECT count(*) FROM t) + 10 * (SELECT count(*) FROM "it's".T) AS n`, o, "22")
	for sql, want := range map[string]string{"SELECT * FROM c.t": "no snapshot of that name", "SELECT * FROM nothing": `"nothing"`} {
		if _, err := rows(t, s, sql, o); !errors.Is(err, tables.ErrNotFound) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error = %v, want ErrNotFound with %s", sql, err, want)
		}
	}
	if _, err := rows(t, s, "SELECT * FROM t", &tables.QueryOptions{At: tables.AtSnapshot("none")}); !errors.Is(err, tables.ErrNotFound) || !strings.Contains(err.Error(), "no snapshot of that name") {
		t.Errorf(`query of a missing snapshot: error = %v, want tables.ErrNotFound with the text "no snapshot of that name"`, err)
	}
}

func TestVersions(t *testing.T) {
	s := newStore(t, nil)
	for i := range int64(3) {
		put(t, s, "b", "t", numbers(i*10, i*10+10))
		fold(t, s)
	}
	put(t, s, "b", "t", numbers(30, 31))
	versions, err := s.Bucket("b").Table("t").Versions(t.Context())
	if err != nil || len(versions) != 4 {
		t.Fatalf("Versions = %+v, %v; want 3 versions, and one of the row in the tail", versions, err)
	}
	for i, v := range versions {
		expect(t, s, "SELECT count(*) FROM t", &tables.QueryOptions{Bucket: "b", At: tables.AtVersion(v.Version)}, fmt.Sprint(min(10*(i+1), 31)))
	}
	expect(t, s, "SELECT count(*) FROM b.t", nil, "31")
	if _, err := rows(t, s, "SELECT count(*) FROM b.t", &tables.QueryOptions{At: tables.AtVersion(99)}); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("query of a missing version: error = %v, want tables.ErrNotFound", err)
	}
	// All rows of a statement are of the same moment, also if the rows are still in the tail.
	time.Sleep(3 * time.Millisecond)
	moment := time.Now()
	time.Sleep(3 * time.Millisecond)
	put(t, s, "b", "t", numbers(31, 40))
	o := &tables.QueryOptions{Bucket: "b", At: tables.AtTime(moment), Before: tables.AtVersion(versions[2].Version)}
	expect(t, s, `SELECT (SELECT count(*) FROM t) + 100 * (SELECT count(*) FROM before.b.t) + 10000 * (SELECT count(*) FROM changes.b.t) AS n`, o, "13031")
	expect(t, s, "SELECT count(*) FROM t", &tables.QueryOptions{Bucket: "b"}, "40")
	var inexact *tables.MomentError
	if _, err := rows(t, s, "SELECT * FROM t", &tables.QueryOptions{Bucket: "b", At: tables.AtTime(time.Time{}.AddDate(2000, 0, 0))}); !errors.As(err, &inexact) {
		t.Fatalf("query of a moment before the table: error = %v, want a MomentError", err)
	}
	expect(t, s, "SELECT count(*) FROM t", &tables.QueryOptions{Bucket: "b", At: tables.AtTime(inexact.After)}, "10")
}

// TestShow describes tables and statements, and lists tables.
func TestShow(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 10))
	put(t, s, "b", "it's", numbers(0, 3))
	put(t, s, "", "plain", numbers(0, 1))
	o := &tables.QueryOptions{Bucket: "b"}
	snapshot(t, s, "b", "kept")
	put(t, s, "b", "new", numbers(0, 1))
	for _, sql := range []string{"SELECT column_name, column_type FROM (DESCRIBE t)", "SELECT column_name, column_type FROM (SUMMARIZE t)", "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM b.t)"} {
		expect(t, s, sql, o, "k|BIGINT", "s|VARCHAR")
	}
	for sql, want := range map[string]int{"DESCRIBE t": 2, "SHOW t": 2, "summarize t": 2, "SUMMARIZE SELECT k FROM t": 1, "DESCRIBE SELECT 1": 1, "SHOW TABLES": 3, "-- EXPLAIN\nSELECT 1": 1} {
		if got, err := rows(t, s, sql, o); err != nil || len(got) != want {
			t.Errorf("%s: got %q, error %v; want %d rows", sql, got, err, want)
		}
	}
	for sql, want := range map[string]string{"SHOW TABLES": "b|it's|3| b|new|1| b|t|10|", "show all tables;": "|plain|1| b|it's|3| b|new|1| b|t|10|"} {
		got, err := rows(t, s, sql, o)
		for i := range got {
			got[i] = got[i][:strings.LastIndex(got[i][:strings.LastIndex(got[i][:strings.LastIndex(got[i], "|")], "|")], "|")+1]
		}
		if strings.Join(got, " ") != want || err != nil {
			t.Errorf("%s: got %q, error %v; want %s", sql, got, err, want)
		}
	}
	if got, err := rows(t, s, "SHOW TABLES", &tables.QueryOptions{Bucket: "b", At: tables.AtSnapshot("kept")}); err != nil || len(got) != 2 {
		t.Errorf("SHOW TABLES of a snapshot returned %q, error %v; want 2 rows", got, err)
	}
	d, err := s.Describe(t.Context(), "EXPLAIN SELECT 1", o)
	if err != nil || d.Result.NumFields() != 2 {
		t.Errorf("Describe = %+v, %v; want 2 result columns", d, err)
	}
}

// TestExplain checks that query plans contain no file paths.
func TestExplain(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 10))
	put(t, s, "b", "t", numbers(10, 20))
	o := &tables.QueryOptions{Bucket: "b"}
	for range 2 { // from the tail, then from files
		for _, sql := range []string{"EXPLAIN SELECT * FROM t WHERE k > 3", "/* why */ -- ?\n explain\nSELECT t.s, count(*) FROM t JOIN t AS u USING (k) GROUP BY ALL"} {
			got, err := rows(t, s, sql, o)
			text := strings.Join(got, "\n")
			if err != nil || !strings.Contains(text, "PARQUET") {
				t.Errorf("%s = %q, error %v; want a plan that reads Parquet", sql, got, err)
			}
			for _, pathPart := range append(strings.Split(strings.Trim(s.Dir(), "/"), "/"), ".parquet", "spill", ".arrow") {
				if len(pathPart) > 3 && strings.Contains(text, pathPart) {
					t.Errorf("%s: the plan reveals %q: %s", sql, pathPart, text)
				}
			}
		}
		fold(t, s)
	}
	_, err := rows(t, s, "EXPLAIN\n  SELECT\nnothing FROM t", o)
	var sqlErr *tables.SQLError
	if !errors.As(err, &sqlErr) || sqlErr.Line != 3 || sqlErr.Column != 1 {
		t.Errorf("EXPLAIN error = %v, want an SQLError at line 3, column 1", err)
	}
}

// TestShowAccess checks that statements cannot list or describe tables in a bucket that the caller cannot access.
func TestShowAccess(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 10))
	put(t, s, "secret", "hidden", numbers(0, 10))
	ctx := tables.WithBuckets(t.Context(), []string{"b"})
	for _, sql := range []string{"SHOW TABLES", "SHOW ALL TABLES", `DESCRIBE secret.hidden`, `SUMMARIZE secret.hidden`, `EXPLAIN SELECT * FROM secret.hidden`, `EXPLAIN SELECT * FROM secret.other`, `SELECT * FROM before.secret.hidden`} {
		for _, bucket := range []string{"b", "secret"} {
			text := queryText(ctx, s, sql, &tables.QueryOptions{Bucket: bucket, Before: tables.AtVersion(1)})
			if strings.Contains(sql, "secret") != strings.Contains(text, "error") || !strings.Contains(sql, "secret") && strings.Contains(text, "hidden") {
				t.Errorf("%s in bucket %s: got %s, want an error only for secret tables", sql, bucket, text)
			}
		}
	}
}

// queryText returns the rows of a statement as text, or its error.
func queryText(ctx context.Context, s *tables.Store, sql string, o *tables.QueryOptions) string {
	r, err := s.Query(ctx, sql, o)
	if err != nil {
		return "error: " + err.Error()
	}
	defer r.Release()
	text := ""
	for r.Next() {
		text += fmt.Sprintln(r.RecordBatch())
	}
	return text
}

// TestQueryChanges queries changes.b.t, the changes of a table since an earlier state.
func TestQueryChanges(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 10))
	snapshot(t, s, "b", "kept")
	put(t, s, "b", "t", numbers(10, 12)) // into the tail
	must.Get(s.Bucket("b").Table("t").DeleteRows(t.Context(), filter.Lt("k", int64(2))))(t)
	put(t, s, "changes", "t", numbers(0, 1)) // a bucket with this name can still be used
	o := &tables.QueryOptions{Bucket: "b", Before: tables.AtSnapshot("kept")}
	expect(t, s, `SELECT k || _change FROM changes.b.t ORDER BY k`, o, "0delete", "1delete", "10insert", "11insert")
	expect(t, s, `SELECT count(*) FROM "changes"."b"."t" JOIN t USING (k) WHERE _change = 'insert'`, o, "2")
	expect(t, s, `SELECT count(*) FROM changes.b.t`, &tables.QueryOptions{Before: tables.AtVersion(0), Nanoseconds: true}, "10")
	expect(t, s, `SELECT count(*) FROM changes.b.t`, &tables.QueryOptions{Before: tables.AtVersion(0), At: tables.AtSnapshot("kept")}, "10")
	expect(t, s, `SELECT count(*) FROM changes.t`, o, "1")
	d, err := s.Describe(t.Context(), `SELECT * FROM changes.b.t`, o)
	if err != nil || !d.Result.HasField("_change") {
		t.Errorf("Describe = %v, %v; want the column _change", d, err)
	}
	for sql, want := range map[string]string{"SELECT * FROM changes.b.t": "but the query does not select one", "SELECT * FROM changes.b.nothing": "but the query does not select one"} {
		expectError(t, s, sql, nil, want)
	}
	if _, err := rows(t, s, "SELECT * FROM changes.b.t", &tables.QueryOptions{Before: tables.AtVersion(99)}); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("changes since a missing version: error = %v, want ErrNotFound", err)
	}
}

// TestQueryBefore compares a table with its state in a snapshot, to which queries refer as before.b.t.
func TestQueryBefore(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 10))
	snapshot(t, s, "b", "kept")
	put(t, s, "b", "t", numbers(10, 12))
	put(t, s, "before", "t", numbers(0, 1)) // a bucket with this name can still be used
	o := &tables.QueryOptions{Bucket: "b", Before: tables.AtSnapshot("kept")}
	expect(t, s, `SELECT k FROM (FROM t EXCEPT ALL FROM before.b.t) ORDER BY k`, o, "10", "11")
	expect(t, s, `SELECT count(*) FROM "before"."b"."t" JOIN partd.b.t USING (k)`, o, "10")
	expect(t, s, `SELECT count(*) FROM before.t`, o, "1")
	for sql, want := range map[string]string{"SELECT * FROM before.b.t": "but the query does not select one", "SELECT * FROM before.b.nothing": "but the query does not select one", "SELECT * FROM after.b.t": "the only catalog"} {
		expectError(t, s, sql, nil, want)
	}
}

// TestTPC compares the results of all TPC-H and TPC-DS queries with DuckDB's results. Its time limit detects joins that
// are planned without row counts, because such queries take minutes.
func TestTPC(t *testing.T) {
	procs.Python(t, tabletest.TPCPeer)
	for kind, count := range map[string]int{"tpch": 22, "tpcds": 99} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			queries, err := tabletest.MakeTPC(t.Context(), kind, 0.01, dir, true)
			if err != nil || len(queries) != count {
				t.Fatalf("got %d queries, want %d; error: %v", len(queries), count, err)
			}
			s := newStore(t, nil)
			must.Do(t, tabletest.PutTPC(t.Context(), s.Bucket("b"), dir))
			passed := 0
			for i, sql := range queries {
				f := must.Get(os.Open(filepath.Join(dir, "answers", fmt.Sprint(i+1, ".arrow"))))(t)
				want, err := cellsOf(must.Get(ipc.NewReader(f))(t))
				if err != nil || f.Close() != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				r, err := s.Query(ctx, sql, &tables.QueryOptions{Bucket: "b"})
				var got [][]string
				if err == nil {
					got, err = cellsOf(r)
				}
				cancel()
				if err != nil || !slices.EqualFunc(got, want, sameCells) {
					t.Errorf("query %d: error %v, got rows\n%.500v\nwant\n%.500v", i+1, err, got, want)
					continue
				}
				passed++
			}
			t.Logf("%d passed", passed)
		})
	}
}

// cellsOf reads rows as text, sorted in an order that small differences between numbers do not change.
func cellsOf(r array.RecordReader) (rows [][]string, err error) {
	defer r.Release()
	for r.Next() {
		b := r.RecordBatch()
		for i := range int(b.NumRows()) {
			row := make([]string, b.NumCols())
			for j, c := range b.Columns() {
				row[j] = strings.Clone(c.ValueStr(i))
				if arrow.IsFloating(c.DataType().ID()) || arrow.IsDecimal(c.DataType().ID()) || arrow.IsInteger(c.DataType().ID()) {
					if n, err := strconv.ParseFloat(row[j], 64); err == nil {
						row[j] = strconv.FormatFloat(n, 'g', 17, 64)
					}
				}
			}
			rows = append(rows, row)
		}
	}
	short := func(cell string) string {
		if n, err := strconv.ParseFloat(cell, 64); err == nil {
			return strconv.FormatFloat(n, 'g', 6, 64)
		}
		return cell
	}
	slices.SortFunc(rows, func(a, b []string) int {
		return slices.CompareFunc(a, b, func(x, y string) int { return cmp.Compare(short(x), short(y)) })
	})
	return rows, r.Err()
}

// sameCells compares two rows. It tolerates small differences, because sums of floats depend on the order of addition.
func sameCells(a, b []string) bool {
	return slices.EqualFunc(a, b, func(x, y string) bool {
		n, errN := strconv.ParseFloat(x, 64)
		m, errM := strconv.ParseFloat(y, 64)
		return x == y || errN == nil && errM == nil && math.Abs(n-m) <= 1e-9*max(1, math.Abs(n), math.Abs(m))
	})
}

// TestMissingFile checks that statements that need a lost data file name the file, the table and the remedy. DuckDB's own
// error is about permissions.
func TestMissingFile(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, nil, tables.Options{FoldAge: -1})
	put(t, s, "", "t", numbers(0, 50))
	must.Get(s.Fold(t.Context(), nil))(t)
	files := must.Get(filepath.Glob(filepath.Join(dir, "data", "*", "data", "*.parquet")))(t)
	if len(files) != 1 {
		t.Fatalf("the table has the files %v, want one", files)
	}
	must.Do(t, os.Remove(files[0]))
	for _, sql := range []string{"SELECT count(*) FROM t", "SELECT sum(k) FROM t", "SELECT * FROM t WHERE k = 3"} {
		_, err := rows(t, s, sql, nil)
		must.Fail(t, err, tables.ErrDamaged, "%s", sql)
		if text := fmt.Sprint(err); !strings.Contains(text, filepath.Base(files[0])) || strings.Contains(text, dir) || !strings.Contains(text, "--repair-from") {
			t.Errorf("%s: %v, want an error with the file's name and the remedy, but no directory", sql, err)
		}
	}
}
