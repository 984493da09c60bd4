//go:build cgo

package duck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
)

// TestParameterForms passes parameters where they become columns of a query. Plain DuckDB runs the same statements with
// the values in place of the parameters: 5 for each $1, and 'x' for each $2.
func TestParameterForms(t *testing.T) {
	s, p := newStore(t, nil), newPlainDuckDB(t)
	parameters := func(first, second string) arrow.RecordBatch {
		columns := arrow.NewSchema([]arrow.Field{{Name: first, Type: arrow.PrimitiveTypes.Int64}, {Name: second, Type: arrow.BinaryTypes.String}}, nil)
		return jsonBatch(t, columns, fmt.Sprintf(`{%q: 5, %q: "x"}`, first, second))
	}
	for _, sql := range []string{
		"INSERT INTO t SELECT $1, $2, NULL WHERE NOT EXISTS (SELECT 1 FROM t WHERE id = $1)", "INSERT INTO t (id, s) SELECT $1, $2", "INSERT INTO t BY NAME SELECT $2 AS s, $1 AS id",
		"INSERT INTO t (id, s) SELECT id + $1, s || $2 FROM t", "INSERT INTO t (id, s) SELECT $1, 'a' UNION ALL SELECT 6, $2", "INSERT INTO t (id, s) WITH q AS (SELECT $1 AS a, $2 AS b) SELECT a, b FROM q",
		"WITH q AS (SELECT $1 AS a, $2 AS b) INSERT INTO t (id, s) SELECT a, b FROM q", "INSERT INTO t (id, s) VALUES ($1, $2) UNION ALL SELECT 1, 'x'", "INSERT INTO t (id, s) SELECT * FROM (VALUES ($1, $2)) v(a, b)",
		"INSERT INTO t (s, id) SELECT $2, $1", "INSERT INTO t (id, s, l) SELECT $1, $2, [$1, NULL]", "INSERT INTO t (id, s) FROM (SELECT $1, $2)", "INSERT INTO t (id, s) SELECT $1, coalesce(NULL, $2)",
		"INSERT INTO t (id, s) SELECT $1, max($2) FROM t", "INSERT INTO t (id, s) (SELECT $1, $2) UNION (SELECT 5, 'x')", "INSERT INTO t (id, s) SELECT DISTINCT $1, $2 FROM t ORDER BY 1 LIMIT 1",
		"INSERT INTO t (id, s) SELECT i, $2 FROM range($1) r(i)", "INSERT INTO t VALUES ($1, $2, NULL)", "UPDATE t SET s = $2, id = id + $1", "UPDATE t SET s = q.s FROM (SELECT $1 AS id, $2 AS s) q WHERE t.id = q.id",
		"MERGE INTO t USING (SELECT $1 AS id, $2 AS s) b ON t.id = b.id WHEN NOT MATCHED THEN INSERT BY NAME", "MERGE INTO t USING (SELECT $1 AS id, $2 AS s) b ON t.id = b.id WHEN MATCHED THEN UPDATE BY NAME",
		"MERGE INTO t USING (VALUES ($1, $2)) b(id, s) ON t.id = b.id WHEN MATCHED THEN UPDATE SET s = b.s WHEN NOT MATCHED THEN INSERT BY NAME", "DELETE FROM t USING (SELECT $1 AS id, $2 AS s) q WHERE t.id = q.id",
	} {
		createIn(t, s, p, "FROM (VALUES (5, 'five', [5]), (1, NULL, NULL)) v(id, s, l)")
		want, err := p.exec(strings.NewReplacer("$1", "5", "$2", "'x'").Replace(sql))
		if err != nil {
			t.Fatal(err)
		}
		named := strings.NewReplacer("$1", "$a", "$2", "$b").Replace(sql)
		for _, o := range []*tables.ExecOptions{{Bucket: "b", Parameters: parameters("a", "b"), DryRun: true}, {Bucket: "b", Parameters: parameters("1", "2")}} {
			text := sql
			if o.DryRun {
				text = named
			}
			if r, err := s.Exec(t.Context(), text, o); err != nil || r.Rows != want {
				t.Errorf("%s = %d rows, error %v; plain DuckDB: %d rows", text, r.Rows, err, want)
			}
		}
		wantRows(t, s, p, sql)
	}
}

// TestMergeForms merges with conditions and values whose functions have side effects, and with a source whose alias
// names its columns.
func TestMergeForms(t *testing.T) {
	s, p := newStore(t, nil), newPlainDuckDB(t)
	const source = " USING (VALUES (1, 'q', 2.5), (9, 'new', 0)) s(id, v, f) ON t.id = s.id "
	for _, sql := range []string{
		"WHEN MATCHED AND t.v LIKE 'a%' THEN UPDATE SET f = 9", "WHEN MATCHED AND t.v NOT LIKE '%a%b%c%' THEN DELETE", "WHEN MATCHED AND t.v ILIKE 'A_' ESCAPE '$' THEN DELETE", "WHEN MATCHED AND t.v GLOB 'a*' THEN DELETE",
		"WHEN MATCHED AND lpad(t.v, 3, 'x') = 'xab' THEN UPDATE SET v = rpad(repeat(t.v, 2), 5, '-'), f = 1", "WHEN NOT MATCHED AND s.v LIKE 'n%' THEN INSERT VALUES (s.id, repeat(s.v, 2), s.f)",
		"WHEN MATCHED AND random() >= 0 THEN UPDATE SET f = CASE WHEN random() < 2 THEN 3 END WHEN MATCHED THEN DELETE", "WHEN MATCHED AND uuid() IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET v = 'kept'",
		"WHEN NOT MATCHED BY SOURCE AND t.v LIKE '%d' AND random() >= 0 THEN UPDATE SET v = lpad(t.v, 9, '.') WHEN MATCHED THEN UPDATE SET *", "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *",
		"WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME WHEN NOT MATCHED BY SOURCE THEN DELETE", "WHEN MATCHED THEN DO NOTHING", "WHEN MATCHED AND s.f > 100 THEN DO NOTHING WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN DO NOTHING",
		"WHEN MATCHED THEN UPDATE SET f = (SELECT max(f) FROM t) WHEN NOT MATCHED THEN INSERT (v) VALUES (s.v)", "WHEN NOT MATCHED BY SOURCE THEN DELETE",
	} {
		createIn(t, s, p, "FROM (VALUES (1, 'ab', 0.5::DOUBLE), (2, 'cd', NULL)) v(id, v, f)")
		both(t, s, p, "MERGE INTO t"+source+sql)
	}
	// Each row takes a single action, although its condition has another value each time.
	change(t, s, "CREATE TABLE u AS SELECT i AS id, 0 AS a, 0 AS b FROM range(5000) r(i)", 5000)
	change(t, s, "MERGE INTO u USING range(10000) s(i) ON u.id = s.i WHEN MATCHED AND random() < 0.5 THEN UPDATE SET a = 1, b = 1 WHEN MATCHED THEN UPDATE SET a = 2, b = 2 WHEN NOT MATCHED AND random() < 2 THEN INSERT VALUES (s.i, 3, 3)", 10000)
	expect(t, s, "SELECT count(*), count(*) FILTER (a = b), count(DISTINCT a), max((SELECT count(*) FROM u WHERE a = 1)) BETWEEN 2000 AND 3000 FROM u", &tables.QueryOptions{Bucket: "b"}, "10000|10000|3|true")
	for _, sql := range []string{
		"WHEN MATCHED THEN DELETE WHEN MATCHED THEN UPDATE SET f = 1", "WHEN MATCHED THEN UPDATE SET f = 1 WHEN NOT MATCHED THEN INSERT * WHEN MATCHED AND t.f = 1 THEN DELETE", "WHEN NOT MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN INSERT *",
	} {
		if _, err := s.Exec(t.Context(), "MERGE INTO t"+source+sql, &tables.ExecOptions{Bucket: "b"}); !strings.Contains(errorText(err), "no row reaches this WHEN") {
			t.Errorf("%s: error = %v, want a refusal", sql, err)
		}
	}
}

// createIn creates the table t, with two rows of a query.
func createIn(t *testing.T, s *tables.Store, p *plainDuckDB, query string) {
	t.Helper()
	change(t, s, "CREATE OR REPLACE TABLE t AS "+query, 2)
	if _, err := p.exec("CREATE OR REPLACE TABLE t AS " + query); err != nil {
		t.Fatal(err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestInfiniteConstants uses constants beyond the range of DOUBLE, which DuckDB reads as infinite.
func TestInfiniteConstants(t *testing.T) {
	s, p := newStore(t, nil), newPlainDuckDB(t)
	in := &tables.QueryOptions{Bucket: "b"}
	expect(t, s, `SELECT 1e400, -1e400, [1e999], '"value":Infinity' AS "{""value"":NaN"`, in, `+Inf|-Inf|["+Inf"]|"value":Infinity`)
	both(t, s, p, "CREATE TABLE t (f DOUBLE, g FLOAT)")
	both(t, s, p, "INSERT INTO t VALUES (1e400, -1e400), ('nan', 'inf'), (1, 1)")
	both(t, s, p, "UPDATE t SET f = -1e400, g = 1e39 WHERE f = 1")
	both(t, s, p, "DELETE FROM t WHERE f < 1e400 AND f > -1e400")
	both(t, s, p, "MERGE INTO t USING (SELECT 1e400 AS f) s ON t.f = s.f WHEN MATCHED AND t.f < 1e500 THEN DELETE WHEN MATCHED THEN UPDATE SET g = -1e400")
}

// TestReplaceStartsFresh replaces tables with settings and rules. The settings go, and the rules stay.
func TestReplaceStartsFresh(t *testing.T) {
	s := newStore(t, nil)
	table := s.Bucket("b").Table("t")
	for _, replacement := range []string{"AS SELECT TIMESTAMP '2026-01-01' AS ts, i AS v FROM range(1, 6) r(i)", "AS SELECT i AS v FROM range(1, 6) r(i)"} {
		change(t, s, "CREATE OR REPLACE TABLE t (ts TIMESTAMP, v BIGINT)", 0)
		withSettings(tables.Settings{Time: "ts", OnDuplicate: tables.KeepLast})(t, s, table)
		change(t, s, "CREATE OR REPLACE TABLE t "+replacement, 5)
		expect(t, s, "SELECT count(*) FROM t", &tables.QueryOptions{Bucket: "b"}, "5")
	}
	if err := table.EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{{Name: "positive", Kind: "range", Column: "v", Min: "0"}}}); err != nil {
		t.Fatal(err)
	}
	sql := "CREATE OR REPLACE TABLE t AS SELECT -1::BIGINT AS v"
	if _, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"}); !strings.Contains(errorText(err), "positive") {
		t.Errorf("%s: error = %v, want an error that names the rule", sql, err)
	}
}
