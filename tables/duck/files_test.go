//go:build cgo

package duck_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/duck"
)

// TestCardinality checks that DuckDB plans with a table's row count, including rows not yet in data files.
func TestCardinality(t *testing.T) {
	s := newStore(t, nil)
	expectRows := func(n int) {
		t.Helper()
		got, err := rows(t, s, "EXPLAIN SELECT k FROM b.t", nil)
		if want := fmt.Sprintf("~%d rows", n); err != nil || !strings.Contains(strings.ReplaceAll(fmt.Sprint(got), ",", ""), want) {
			t.Errorf("got plan %v, error %v; want it to contain %s", got, err, want)
		}
	}
	put(t, s, "b", "t", numbers(0, 70_000))
	expectRows(70_000)
	put(t, s, "b", "t", numbers(0, 15))
	expectRows(70_015)
	fold(t, s)
	expectRows(70_015)
}

// TestColumnsOfViews runs statements whose results would change if a view lacked a column.
func TestColumnsOfViews(t *testing.T) {
	integer := func(name string) arrow.Field {
		return arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Int64, Nullable: true}
	}
	point := arrow.Field{Name: "Point", Type: arrow.StructOf(integer("x"), integer("y")), Nullable: true}
	for _, separateProcesses := range []bool{false, true} {
		s := newStore(t, &duck.Options{Processes: separateProcesses})
		put(t, s, "b", "t", jsonBatch(t, arrow.NewSchema([]arrow.Field{integer("a"), integer("B"), point}, nil), `{"a":1,"B":2,"Point":{"x":3,"y":4}}`))
		put(t, s, "b", "u", jsonBatch(t, arrow.NewSchema([]arrow.Field{integer("a"), integer("c")}, nil), `{"a":1,"c":5}`))
		for sql, want := range map[string]string{
			"SELECT count(*) FROM b.t":                                          "1",
			"SELECT b FROM b.t":                                                 "2",
			"SELECT t.point.y FROM b.t":                                         "4",
			"SELECT point.x FROM b.t":                                           "3",
			"SELECT a AS b FROM b.t ORDER BY b":                                 "1",
			"SELECT a + b AS a FROM b.t WHERE a = 1":                            "3",
			"SELECT (SELECT max(c + B) FROM b.u WHERE u.a = t.a) FROM b.t":      "7",
			"SELECT c FROM b.t JOIN b.u USING (a)":                              "5",
			"SELECT c FROM b.t NATURAL JOIN b.u":                                "5",
			"SELECT to_json(v)::VARCHAR FROM b.u AS v":                          `{"a":1,"c":5}`,
			"SELECT #2 FROM b.u":                                                "5",
			"WITH t AS (SELECT c AS B FROM b.u) SELECT B FROM t":                "5",
			"SELECT b FROM b.t WHERE EXISTS (SELECT B FROM b.u)":                "2",
			"SELECT sum(a) FROM (FROM b.u UNION ALL BY NAME SELECT a FROM b.t)": "2",
			"SELECT max(COLUMNS('B')) FROM b.t":                                 "2",
			"SELECT list_transform([1], b -> b + 1)[1] FROM b.t":                "2",
			"SELECT v FROM (SELECT a, B FROM b.t) UNPIVOT (v FOR n IN (a))":     "1",
		} {
			expect(t, s, sql, nil, want)
		}
		// The error suggests a column that the statement does not name.
		expectError(t, s, "SELECT pont FROM b.t", nil, "Point")
	}
}

// TestCountWithoutScan checks that DuckDB counts the rows of a table with a single file without a scan.
func TestCountWithoutScan(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 70_000))
	for sql, scans := range map[string]bool{"SELECT count(*) FROM b.t": false, "SELECT count(*) FROM b.t WHERE k >= 0": true, "SELECT count(*) FROM (SELECT DISTINCT * FROM b.t)": true} {
		expect(t, s, sql, nil, "70000")
		plan, err := rows(t, s, "EXPLAIN "+sql, nil)
		if got := strings.Contains(strings.Join(plan, ""), "PARQUET"); got != scans || err != nil {
			t.Errorf("%s: the plan scans files: %t, want %t; error: %v; plan: %s", sql, got, scans, err, plan)
		}
	}
	expect(t, s, "SELECT count(1) FROM b.t AS x, (SELECT 1 FROM b.t LIMIT 2)", nil, "140000")
	put(t, s, "b", "t", numbers(0, 15))
	expect(t, s, "SELECT count(*) FROM b.t", nil, "70015")
}

// TestLargeFile checks that the rows of a single large file are read once, although the view then also reads an empty
// file.
func TestLargeFile(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 300_000))
	fold(t, s)
	expect(t, s, "SELECT count(*), count(DISTINCT k), max(k) FROM b.t", nil, "300000|300000|299999")
	expect(t, s, "SELECT count(*) FROM (SELECT * FROM b.t WHERE k IS NULL)", nil, "0")
}

// TestDescribedFiles checks that a described statement keeps no file open, so that the file's space becomes free when
// the file is removed.
func TestDescribedFiles(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("open files are only listed on Linux")
	}
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 10))
	for _, sql := range []string{"SELECT count(*) FROM b.t WHERE random() < 2", "SELECT k FROM b.t"} {
		must.Get(s.Describe(t.Context(), sql, nil))(t)
		descriptors, _ := filepath.Glob("/proc/self/fd/*")
		for _, d := range descriptors {
			if path, _ := os.Readlink(d); strings.HasSuffix(path, ".parquet") {
				t.Errorf("after Describe of %s, %s is open", sql, filepath.Base(path))
			}
		}
	}
}
