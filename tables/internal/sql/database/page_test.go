//go:build cgo

package database

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// TestPageKeywords checks the web page's lists of functions to complete and of keywords to quote against DuckDB.
// If the test fails, copy the correct words from its message.
func TestPageKeywords(t *testing.T) {
	d, err := Open(&Options{Memory: 256 << 20, Threads: 1, MaxTemp: 1 << 20}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	source, err := os.ReadFile("../../../page/web/src/duckdb.ts")
	if err != nil {
		t.Fatal(err)
	}
	refused := strings.Join(append([]string{"pg_.*", "has_.*_privilege", "duckdb_.*", "variant_.*", "partd_.*", ".*like_escape", "inet_.*", "(txid_current|shobj|obj|col)_?.*description", "__.*", "icu_.*"}, forbiddenFunctions...), "|")
	for name, sql := range map[string]string{
		"functions": `SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type IN ('scalar', 'aggregate', 'macro') AND function_name SIMILAR TO '[a-z][a-z0-9_]*' AND NOT function_name SIMILAR TO ` + sqltext.Text(refused),
		"reserved":  `SELECT DISTINCT keyword_name FROM duckdb_keywords() WHERE keyword_category IN ('reserved', 'type_function')`,
	} {
		match := regexp.MustCompile(name + ` = [^"]*"([^"]*)"`).FindSubmatch(source)
		if match == nil {
			t.Fatalf("duckdb.ts has no list of %s", name)
		}
		if want := firstValue(t, d, "SELECT string_agg(n, ' ' ORDER BY n) AS n FROM ("+sql+") AS all_of(n)"); string(match[1]) != want {
			t.Errorf("duckdb.ts: the list of %s must be %s", name, want)
		}
	}
}

func firstValue(t *testing.T, d *Database, sql string) string {
	t.Helper()
	defer d.Finish()
	s := startStatement(t, d, sql)
	defer s.End()
	batch, err := s.Next()
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Release()
	return strings.Clone(batch.Column(0).ValueStr(0)) // the batch owns the original's memory
}

func startStatement(t testing.TB, d *Database, sql string) *stream {
	t.Helper()
	if err := d.prepare(sql); err != nil {
		t.Fatal(err)
	}
	s, err := d.stream(context.Background(), sql)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
