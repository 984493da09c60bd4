//go:build cgo

package duck_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
	_ "github.com/go-partd/partd/tables/postgres" // registers catalogs at postgres://…
)

// change runs a statement in bucket b, and checks the number of rows.
func change(t *testing.T, s *tables.Store, sql string, rows int64) {
	t.Helper()
	r, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"})
	if err != nil || r.Rows != rows {
		t.Fatalf("%s = %d rows, error %v; want %d rows", sql, r.Rows, err, rows)
	}
}

func TestExec(t *testing.T) {
	s := newStore(t, nil)
	in := &tables.QueryOptions{Bucket: "b"}
	change(t, s, "CREATE TABLE t AS SELECT i AS k, 's' || i AS s, i / 2 AS f FROM range(10) r(i)", 10)
	change(t, s, "INSERT INTO t VALUES (10, 'ten', 5), (11, DEFAULT, 5.5);", 2)
	change(t, s, "INSERT INTO t (s, k) SELECT 'x', 12", 1)
	change(t, s, "INSERT INTO t BY NAME SELECT 13::TINYINT AS K", 1)
	expect(t, s, "SELECT count(*), sum(k), count(s), sum(f) FROM t", in, "14|91|12|33")
	change(t, s, "DELETE FROM t WHERE k >= 10", 4)
	change(t, s, "DELETE FROM t AS u USING range(3) r(i) WHERE u.k = r.i", 3)
	expect(t, s, "SELECT k, s FROM t ORDER BY k", in, "3|s3", "4|s4", "5|s5", "6|s6", "7|s7", "8|s8", "9|s9")
	change(t, s, "UPDATE t SET s = upper(s), f = DEFAULT WHERE k < 5", 2)
	change(t, s, "UPDATE t SET k = v FROM (VALUES (9, 90)) u(i, v) WHERE t.k = u.i", 1)
	expect(t, s, "SELECT k, s, f FROM t ORDER BY k", in, "3|S3|(null)", "4|S4|(null)", "5|s5|2.5", "6|s6|3", "7|s7|3.5", "8|s8|4", "90|s9|4.5")
	change(t, s, `MERGE INTO t USING (VALUES (3, 'a'), (4, 'b'), (100, 'c'), (101, 'd')) AS u(i, v) ON t.k = u.i
		WHEN MATCHED AND v = 'a' THEN DELETE WHEN MATCHED THEN UPDATE SET s = v
		WHEN NOT MATCHED AND v = 'd' THEN DO NOTHING WHEN NOT MATCHED THEN INSERT (k, s) VALUES (i, v)
		WHEN NOT MATCHED BY SOURCE AND k = 90 THEN UPDATE SET f = 0`, 4)
	expect(t, s, "SELECT k, s, f FROM t ORDER BY k", in, "4|b|(null)", "5|s5|2.5", "6|s6|3", "7|s7|3.5", "8|s8|4", "90|s9|0", "100|c|(null)")
	change(t, s, "ALTER TABLE t ADD COLUMN d DATE", 0)
	change(t, s, "UPDATE t SET d = '2026-11-26'", 7)
	change(t, s, "ALTER TABLE t RENAME d TO e", 0)
	change(t, s, "ALTER TABLE t DROP COLUMN f", 0)
	expect(t, s, "SELECT DISTINCT e FROM t", in, "2026-11-26")
	change(t, s, "ALTER TABLE t RENAME TO u", 0)
	change(t, s, "TRUNCATE u", 7)
	change(t, s, "CREATE TABLE IF NOT EXISTS u (a INT)", 0)
	change(t, s, "CREATE OR REPLACE TABLE u (a INT, b STRUCT(x VARCHAR, y INT[]))", 0)
	change(t, s, "INSERT INTO u VALUES (1, {'x': 'y', 'y': [1, 2]})", 1)
	change(t, s, "DROP TABLE u", 1)
	change(t, s, "DROP TABLE IF EXISTS u", 0)
	change(t, s, "CREATE SCHEMA c", 0)
	change(t, s, "CREATE TABLE c.t AS SELECT 1 AS x", 1)
	r, err := s.Exec(t.Context(), "CREATE OR REPLACE TABLE c.t AS SELECT range AS x FROM range(5)", &tables.ExecOptions{DryRun: true})
	if err != nil || r.Rows != 5 || r.Replaced != 1 {
		t.Errorf("dry run of CREATE OR REPLACE = %d rows for %d, error %v; want 5 for 1", r.Rows, r.Replaced, err)
	}
	change(t, s, "CREATE TABLE c.u AS SELECT range AS x FROM range(4)", 4)
	for _, dryRun := range []bool{true, false} {
		r, err := s.Exec(t.Context(), "DROP SCHEMA c CASCADE", &tables.ExecOptions{DryRun: dryRun})
		if exists, _ := s.Bucket("c").Exists(t.Context()); err != nil || r.Rows != 5 || exists != dryRun {
			t.Errorf("DROP SCHEMA CASCADE with DryRun %v = %d rows, error %v, and the bucket exists: %v; want 5 rows", dryRun, r.Rows, err, exists)
		}
	}
}

// TestExecDuplicates checks that UPDATE and MERGE fail, and change nothing, if new rows duplicate each other, even if
// the table's rule would keep one of them.
func TestExecDuplicates(t *testing.T) {
	for _, rule := range []tables.OnDuplicate{tables.KeepFirst, tables.KeepLast, tables.RefuseDuplicate} {
		s := newStore(t, nil)
		change(t, s, "CREATE TABLE t AS SELECT TIMESTAMP '2026-01-01' AS ts, unnest(['A', 'B']) AS sym", 2)
		must.Do(t, s.Bucket("b").Table("t").SetSettings(t.Context(), tables.Settings{Time: "ts", Keys: []string{"sym"}, OnDuplicate: rule}))
		for _, sql := range []string{
			"UPDATE t SET sym = 'X' WHERE sym IN ('A', 'B')",
			"MERGE INTO t USING (VALUES ('A'), ('B')) AS u(s) ON sym = s WHEN MATCHED THEN UPDATE SET sym = 'X'",
			"MERGE INTO t USING (VALUES (1), (2)) AS u(i) ON false WHEN NOT MATCHED THEN INSERT VALUES ('2026-01-02', 'X')",
		} {
			if r, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"}); !errors.As(err, new(*tables.DuplicateError)) || r.Rows != 0 {
				t.Errorf("%v: %s = %d rows, error %v; want 0 rows and a DuplicateError", rule, sql, r.Rows, err)
			}
		}
		expect(t, s, "SELECT sym FROM t ORDER BY sym", &tables.QueryOptions{Bucket: "b"}, "A", "B")
	}
}

// TestExecReservedNames checks that statements fail if a column could be confused with a column of the change's query.
func TestExecReservedNames(t *testing.T) {
	for i, name := range []string{"partd row", "PARTD file", "partd action"} {
		s := newStore(t, nil)
		change(t, s, fmt.Sprintf(`CREATE TABLE named AS SELECT 1 - i AS "%s", i AS k, 'old' AS v FROM range(2) r(i)`, name), 2)
		change(t, s, "CREATE TABLE t AS SELECT i AS k, 'old' AS v FROM range(2) r(i)", 2)
		for _, sql := range []string{
			"UPDATE named SET v = 'new' WHERE k = 0", "DELETE FROM named WHERE k = 0", "MERGE INTO named USING (VALUES (0)) AS u(i) ON k = i WHEN MATCHED THEN DELETE",
			"UPDATE t SET v = 'new' FROM named WHERE t.k = named.k AND t.k = 0", "DELETE FROM t USING named WHERE t.k = named.k AND t.k = 0",
			"MERGE INTO t USING named ON t.k = named.k AND t.k = 0 WHEN MATCHED THEN UPDATE SET v = 'new'",
			fmt.Sprintf(`UPDATE t SET v = 'new' FROM (SELECT 7 AS "%s") AS u`, name), fmt.Sprintf(`DELETE FROM t WHERE "%s" = 0`, name),
			fmt.Sprintf(`MERGE INTO t USING (SELECT 7 AS "%s") AS u ON true WHEN MATCHED THEN UPDATE SET v = 'new'`, name),
		} {
			if _, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"}); err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(name)) {
				t.Errorf("%s: error %v, want an error with the name %q", sql, err, name)
			}
		}
		in := &tables.QueryOptions{Bucket: "b"}
		expect(t, s, "SELECT count(*), max(v) FROM named", in, "2|old")
		expect(t, s, "SELECT count(*), max(v) FROM t", in, "2|old")
		change(t, s, fmt.Sprintf(`ALTER TABLE named RENAME "%s" TO n%d`, name, i), 0)
		change(t, s, "DELETE FROM named WHERE k = 0", 1)
	}
}

// TestExecRandomSource merges a random source. Each row of the table either matches a row of the source or not.
func TestExecRandomSource(t *testing.T) {
	for _, with := range []string{"", "WITH a AS (SELECT * FROM range(1000)) "} {
		s := newStore(t, nil)
		change(t, s, "CREATE TABLE t AS SELECT i AS k, 0 AS n FROM range(1000) r(i)", 1000)
		change(t, s, with+`MERGE INTO t USING (SELECT i FROM range(1000) r(i) WHERE random() < 0.5) AS u(j) ON k = j
			WHEN MATCHED THEN UPDATE SET n = n + 1 WHEN NOT MATCHED BY SOURCE THEN UPDATE SET n = n - 1`, 1000)
		expect(t, s, "SELECT count(*) FROM t WHERE n = 0", &tables.QueryOptions{Bucket: "b"}, "0")
	}
}

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
		want := must.Get(p.exec(strings.NewReplacer("$1", "5", "$2", "'x'").Replace(sql)))(t)
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
	must.Get(p.exec("CREATE OR REPLACE TABLE t AS " + query))(t)
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
	must.Do(t, table.EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{{Name: "positive", Kind: "range", Column: "v", Min: "0"}}}))
	sql := "CREATE OR REPLACE TABLE t AS SELECT -1::BIGINT AS v"
	if _, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"}); !strings.Contains(errorText(err), "positive") {
		t.Errorf("%s: error = %v, want an error that names the rule", sql, err)
	}
}

// TestDuplicates checks that SQL reads no replaced rows, whether the rows are in files or in the tail, even
// if only the replaced row satisfies the query's condition.
func TestDuplicates(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}},
		{Name: "the key", Type: arrow.BinaryTypes.String},
		{Name: "v", Type: arrow.PrimitiveTypes.Int64},
	}, nil)
	for rule, want := range map[tables.OnDuplicate]string{
		tables.KeepAll: "1 2 3 4 5 6", tables.KeepFirst: "1 2 3 6", tables.KeepLast: "1 4 5 6",
	} {
		t.Run(string(rule), func(t *testing.T) {
			s := newStore(t, nil)
			o := &tables.PutOptions{Settings: &tables.Settings{Time: "ts", Keys: []string{"the key"}, OnDuplicate: rule}}
			put := func(rows ...string) { putWith(t, s, "", "t", o, jsonBatch(t, schema, strings.Join(rows, ","))) }
			row := func(day, key string, v int) string {
				return fmt.Sprintf(`{"ts":"2024-01-%s 00:00:00Z","the key":%q,"v":%d}`, day, key, v)
			}
			put(row("01", "a", 1), row("02", "a", 2))
			fold(t, s)
			put(row("03", "a", 3))
			fold(t, s)
			put(row("02", "a", 4), row("03", "a", 5), row("02", "b", 6))
			matching := map[tables.OnDuplicate]string{tables.KeepAll: "2 3 4 5", tables.KeepFirst: "2 3", tables.KeepLast: "4 5"}[rule]
			for range 2 { // in the tail, then folded
				expect(t, s, "SELECT v FROM t ORDER BY v", nil, strings.Fields(want)...)
				expect(t, s, "SELECT v FROM t WHERE v IN (2, 3, 4, 5) ORDER BY v", nil, strings.Fields(matching)...)
				fold(t, s)
			}
		})
	}
}

// execKind is a kind of table on which TestRandomExec runs statements.
type execKind struct {
	open      func(t *testing.T) *tables.Store // nil means newStore
	configure func(t *testing.T, s *tables.Store, table *tables.Table)

	// between, if not nil, runs between two statements. It can change the table, and then makes the same change in
	// plain DuckDB. It returns a description of the change.
	between func(t *testing.T, s *tables.Store, p *plainDuckDB, r *randomStatements) string
}

func withSettings(settings tables.Settings) func(*testing.T, *tables.Store, *tables.Table) {
	return func(t *testing.T, _ *tables.Store, table *tables.Table) {
		t.Helper()
		must.Do(t, table.SetSettings(t.Context(), settings))
	}
}

func execKinds() map[string]execKind {
	kinds := map[string]execKind{
		"plain":        {},
		"ordered":      {configure: withSettings(tables.Settings{Time: "ts"})},
		"partitioned":  {configure: withSettings(tables.Settings{Time: "ts", Keys: []string{"id"}, Partition: tables.PartitionDay})},
		"deduplicated": {configure: withSettings(tables.Settings{Time: "ts", Keys: []string{"id"}, OnDuplicate: tables.KeepLast})},
		"ruled": {configure: func(t *testing.T, _ *tables.Store, table *tables.Table) {
			must.Do(t, table.EditRules(t.Context(), tables.RuleEdit{Add: []tables.Rule{{Name: "unique", Kind: "unique", Columns: []string{"id"}, InTable: true}}}))
		}},
		"remote": {open: remoteExecStore},
		"with deletion vectors": {
			configure: func(t *testing.T, s *tables.Store, _ *tables.Table) {
				tabletest.NewEngine(t, s, "b", "t").MergeOnRead(3)
			},
			between: deleteAsIceberg,
		},
		"ordered with delete files": {
			configure: func(t *testing.T, s *tables.Store, table *tables.Table) {
				withSettings(tables.Settings{Time: "ts"})(t, s, table)
				tabletest.NewEngine(t, s, "b", "t").MergeOnRead(2)
			},
			between: deleteAsIceberg,
		},
	}
	if runtime.GOOS == "linux" {
		kinds["in processes"] = execKind{open: func(t *testing.T) *tables.Store { return newStore(t, &duck.Options{Processes: true}) }}
	}
	return kinds
}

// foldOrCompact folds or compacts the tables at random. Therefore, most statements find several files, and often rows
// in the tail.
func foldOrCompact(t *testing.T, s *tables.Store, r *randomStatements) {
	t.Helper()
	switch r.IntN(6) {
	case 0, 1:
		fold(t, s)
	case 2:
		must.Get(s.Compact(t.Context(), nil))(t)
	}
}

// deleteAsIceberg sometimes deletes rows as another program would: it leaves them in their files, and marks them as
// deleted.
func deleteAsIceberg(t *testing.T, s *tables.Store, p *plainDuckDB, r *randomStatements) string {
	t.Helper()
	if r.IntN(4) > 0 {
		return "nothing"
	}
	fold(t, s)
	first := r.Int32N(int32(r.next + 1))
	id := iceberg.Reference("id") // not k: iceberg-go misses rows of files with nulls in the column
	tabletest.NewEngine(t, s, "b", "t").Delete(iceberg.NewAnd(iceberg.GreaterThanEqual(id, first), iceberg.LessThan(id, first+4)))
	where := fmt.Sprintf("id BETWEEN %d AND %d", first, first+3)
	must.Get(p.exec("DELETE FROM t WHERE " + where))(t)
	return "another program's deletion of " + where
}

// remoteExecStore returns a store in a bucket in memory, with a catalog in PostgreSQL. Its cache is too small for any
// file.
func remoteExecStore(t *testing.T) *tables.Store {
	catalog := procs.StartPostgres(t)
	bucket := new(objstore.Memory)
	return openStore(t, "s3://memory/house", nil, tables.Options{
		FoldAge: -1, Catalog: catalog.URL(), TailDir: t.TempDir(), CacheDir: t.TempDir(), CacheSize: 1,
		OpenBucket: func(context.Context, string) (objstore.Bucket, error) { return bucket, nil },
	})
}

// TestExecIDsOnPostgres repeats statements with IDs on a store in a bucket with a catalog in PostgreSQL. Some IDs
// contain characters that have a meaning in SQL patterns or paths.
func TestExecIDsOnPostgres(t *testing.T) {
	s := remoteExecStore(t)
	for i, id := range []string{"a", "a%", "a_", "ä'\\", "a#1", "a:1", "a/2"} {
		for j, sql := range []string{
			fmt.Sprintf("CREATE TABLE t%d AS SELECT i AS k FROM range(10) r(i)", i), fmt.Sprintf("INSERT INTO t%d SELECT k + 100 FROM t%[1]d WHERE k < 7", i),
			fmt.Sprintf("UPDATE t%d SET k = k + 1000 WHERE k < 3", i), fmt.Sprintf("DELETE FROM t%d WHERE k >= 1000", i), fmt.Sprintf("TRUNCATE t%d", i),
		} {
			o := &tables.ExecOptions{Bucket: "b", ID: fmt.Sprint(id, j)}
			first, err := s.Exec(t.Context(), sql, o)
			if want := []int64{10, 7, 3, 3, 14}[j]; err != nil || first.Rows != want {
				t.Fatalf("%s = %d rows, error %v; want %d", sql, first.Rows, err, want)
			}
			again, err := s.Exec(t.Context(), sql, o)
			if err != nil || again != first {
				t.Errorf("%s again with the ID %q = %+v, error %v; want %+v", sql, o.ID, again, err, first)
			}
		}
	}
}
