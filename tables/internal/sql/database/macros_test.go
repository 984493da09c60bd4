//go:build cgo

package database

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// TestLikeMatchesDuckDB checks that LIKE agrees with DuckDB's own function for random patterns.
func TestLikeMatchesDuckDB(t *testing.T) {
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	word := func(alphabet []string, maxLength int) string {
		var b strings.Builder
		for range random.IntN(maxLength) {
			b.WriteString(alphabet[random.IntN(len(alphabet))])
		}
		return b.String()
	}
	letters := []string{"a", "B", "b", "ä", "Ä", "ß", "\n", "\r", ".", "\\", "*", "(", "日", "🙂", "e\u0301", "$", "[", "^", " ", "-", "İ", "K"}
	patternParts := append([]string{"%", "%", "%", "_", "_", "%_"}, letters...)
	var values []string
	for range 4000 {
		s, p := word(letters, 8), word(patternParts, 8)
		if random.IntN(2) == 0 { // a pattern that is likely to match
			p = ""
			for _, r := range s {
				p += []string{string(r), string(r), "_", "%", "", "%%"}[random.IntN(6)]
			}
		}
		values = append(values, fmt.Sprintf("(%s, %s)", sqltext.Text(s), sqltext.Text(p)))
	}
	d := openDatabase(t, 256<<20)
	var comparisons []string
	for _, op := range []string{"~~", "!~~", "~~*", "!~~*"} {
		comparisons = append(comparisons, fmt.Sprintf(`SELECT '%s %s' AS op, s, p, "%[1]s"(s, p) AS got, system.main."%[1]s"(s, p) AS want FROM v`, op, ""))
	}
	for _, op := range []string{"like_escape", "not_like_escape", "ilike_escape", "not_ilike_escape"} {
		pattern := `CASE WHEN partd_wild(p) THEN '%' ELSE p || 'x' END`
		comparisons = append(comparisons, fmt.Sprintf(`SELECT '%s', s, p, %[1]s(s, %[2]s, '$'), system.main.%[1]s(s, %[2]s, '$') FROM v WHERE NOT contains(p, '$')`, op, pattern))
	}
	sql := "WITH v(s, p) AS MATERIALIZED (VALUES " + strings.Join(values, ", ") + "), compared AS (" + strings.Join(comparisons, " UNION ALL ") + ")\n" +
		"SELECT count(*)::VARCHAR || ', true: ' || count(*) FILTER (want) || ' ' || coalesce(string_agg(op || ' of ' || s || ' and ' || p, ' ; ') FILTER (got IS DISTINCT FROM want), '') FROM compared"
	var r duckdb.Result
	defer duckdb.DestroyResult(&r)
	if duckdb.Query(d.conn, sql, &r) == duckdb.StateError {
		t.Fatal(duckdb.ResultError(&r))
	}
	chunk := duckdb.FetchChunk(r)
	defer duckdb.DestroyDataChunk(&chunk)
	text := duckdb.StringTData((*duckdb.StringT)(duckdb.VectorGetData(duckdb.DataChunkGetVector(chunk, 0))))
	count, differences, _ := strings.Cut(text, " of ")
	t.Log(count)
	if differences != "" {
		t.Errorf("LIKE differs from DuckDB's function: %.1500q", differences)
	}
}

// TestLikeIsCompiledOnce matches many rows with a pattern that becomes a regular expression. If it were
// compiled for each row, the test would take minutes.
func TestLikeIsCompiledOnce(t *testing.T) {
	d := openDatabase(t, 256<<20)
	measure := func(condition string) time.Duration {
		start := time.Now()
		must.Do(t, d.execute("SELECT count(*) FROM (SELECT 'abc' || range AS s FROM range(100000)) WHERE "+condition))
		return time.Since(start)
	}
	baseline := measure("regexp_full_match(s, '.*c.*1.*', 's')")
	if like := measure("s LIKE '%c%1%'"); like > 10*baseline+200*time.Millisecond {
		t.Errorf("LIKE takes %v, but the regular expression takes %v", like, baseline)
	}
}

// TestPageKeywords checks the web page's lists of functions to complete and of keywords to quote against DuckDB.
// If the test fails, copy the correct words from its message.
func TestPageKeywords(t *testing.T) {
	d := openDatabase(t, 256<<20)
	source := must.Get(os.ReadFile("../../../page/web/src/duckdb.ts"))(t)
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
	batch := must.Get(s.Next())(t)
	defer batch.Release()
	return strings.Clone(batch.Column(0).ValueStr(0)) // the batch owns the original's memory
}

func startStatement(t testing.TB, d *Database, sql string) *stream {
	t.Helper()
	must.Do(t, d.prepare(sql))
	return must.Get(d.stream(context.Background(), sql))(t)
}
