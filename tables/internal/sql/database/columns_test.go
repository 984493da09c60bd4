//go:build cgo

package database

import (
	"slices"
	"strings"
	"testing"
)

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
