//go:build cgo

package database

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	duckdb "github.com/duckdb/duckdb-go-bindings"

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
	d, err := Open(&Options{Memory: 256 << 20, Threads: 1, MaxTemp: 1 << 20}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
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
	d, err := Open(&Options{Memory: 256 << 20, Threads: 1, MaxTemp: 1 << 20}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	measure := func(condition string) time.Duration {
		start := time.Now()
		if err := d.execute("SELECT count(*) FROM (SELECT 'abc' || range AS s FROM range(100000)) WHERE " + condition); err != nil {
			t.Fatal(err)
		}
		return time.Since(start)
	}
	baseline := measure("regexp_full_match(s, '.*c.*1.*', 's')")
	if like := measure("s LIKE '%c%1%'"); like > 10*baseline+200*time.Millisecond {
		t.Errorf("LIKE takes %v, but the regular expression takes %v", like, baseline)
	}
}
