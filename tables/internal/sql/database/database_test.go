//go:build cgo

package database

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// TestConfined executes forbidden statements directly, without checking their parse trees. The confined database
// must refuse them.
func TestConfined(t *testing.T) {
	dir := t.TempDir()
	ownFile, otherFile := filepath.Join(dir, "mine.csv"), filepath.Join(dir, "other.csv")
	for _, path := range []string{ownFile, otherFile} {
		must.Do(t, os.WriteFile(path, []byte("a\n1\n"), 0o600))
	}
	d := must.Get(Open(&Options{Memory: 512 << 20, MaxTemp: 1 << 30, Threads: 1}, filepath.Join(dir, "spill")))(t)
	defer d.Close()
	if err := d.execute("SELECT * FROM read_csv(" + sqltext.Text(otherFile) + ")"); err != nil {
		t.Fatal(err) // the database is unrestricted until it is confined
	}
	j := &Job{Memory: 1 << 30, Views: []string{`CREATE OR REPLACE VIEW "main"."t" AS SELECT NULL::BIGINT AS "a" WHERE false`}}
	must.Do(t, d.execute(append(confinement(j), j.Views...)...))
	for _, sql := range []string{
		"SELECT * FROM read_csv(" + sqltext.Text(otherFile) + ")", "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM glob('/*')", "SELECT * FROM " + sqltext.Text(otherFile),
		"COPY (SELECT 1) TO " + sqltext.Text(filepath.Join(dir, "out")), "EXPLAIN ANALYZE COPY (SELECT 1) TO " + sqltext.Text(filepath.Join(dir, "out")), "ATTACH " + sqltext.Text(filepath.Join(dir, "db")),
		"EXPORT DATABASE " + sqltext.Text(dir), "INSTALL httpfs", "LOAD httpfs", "SET enable_external_access=true", "SET lock_configuration=false", "SET memory_limit='1TB'",
		"SET allowed_paths=['/etc/passwd']", "RESET memory_limit", "PRAGMA threads=99", "SET temp_directory='/tmp'", "SET autoload_known_extensions=true",
	} {
		if err := d.execute(sql); err == nil {
			t.Errorf("%s succeeded, want an error", sql)
		}
	}
	if files, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(files) > 3 {
		t.Errorf("a statement created a file: %q, %v", files, err)
	}
	must.Do(t, d.execute("SELECT * FROM t"))
}

// TestColumnsOfStatements checks which columns a statement can use.
func TestColumnsOfStatements(t *testing.T) {
	d := openDatabase(t, 64<<20)
	const all = "all"
	for sql, want := range map[string]string{
		"SELECT count(*) FROM t":                                      "",
		"SELECT A, t.b FROM t":                                        "a b t",
		"SELECT max(a) AS b FROM t GROUP BY c ORDER BY d":             "a c d",
		"SELECT s.f FROM t":                                           "f s",
		"SELECT A.upper(), [1] FROM t":                                "a",
		"SELECT u.b.lower() FROM t AS u":                              "b u",
		"SELECT a FROM t JOIN u USING (k) WHERE x > 1":                "a k x",
		"SELECT a FROM t WHERE b IN (SELECT c FROM u)":                "a b c",
		"WITH u AS (SELECT a FROM t) SELECT b FROM u":                 "a b",
		"SELECT list_transform([1], x -> x + y) FROM t":               "x y",
		"SELECT row_number() OVER (PARTITION BY p ORDER BY o) FROM t": "o p",
		"SELECT * FROM t":                                             all,
		"SELECT * EXCLUDE (a) FROM t":                                 all,
		"FROM t":                                                      all,
		"SELECT u.* FROM t AS u":                                      all,
		"SELECT COLUMNS('a.*') FROM t":                                all,
		"SELECT #1 FROM t":                                            all,
		"SELECT T FROM t":                                             all, // a row as a struct
		"SELECT u FROM t AS u":                                        all,
		"SELECT to_json(u) FROM (SELECT 1 AS z) AS u, t":              all,
		"SELECT b.t FROM b.t":                                         all,
		"SELECT a FROM t AS u(a)":                                     all,
		"SELECT a FROM t NATURAL JOIN u":                              all,
		"SELECT x FROM t PIVOT (sum(x) FOR y IN ('a', 'b'))":          all,
		"SELECT v FROM t UNPIVOT (v FOR n IN (a, b))":                 all,
		"DESCRIBE t":                                                  all,
		"SUMMARIZE SELECT a FROM t":                                   all,
	} {
		names, err := d.TableNames(sql)
		if err != nil || len(names) == 0 {
			t.Errorf("TableNames(%q) = %v, %v, want at least one name", sql, names, err)
			continue
		}
		got := strings.Join(names[0].Columns, " ")
		if names[0].AllColumns {
			got = all
		}
		if got != want {
			t.Errorf("%s: got columns %q, want %q", sql, got, want)
		}
		for _, n := range names {
			if n.AllColumns != names[0].AllColumns || !slices.Equal(n.Columns, names[0].Columns) {
				t.Errorf("%s: the tables have different columns: %v", sql, names)
			}
		}
	}
}
