//go:build cgo

package duck_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestHostile runs statements that access anything other than their own tables. All must fail, and no error
// may reveal a path.
func TestHostile(t *testing.T) {
	temp := t.TempDir()
	s := newStore(t, &duck.Options{TempDir: temp})
	put(t, s, "b", "t", numbers(0, 10))
	put(t, s, "secret", "t", numbers(0, 10))
	fold(t, s)
	otherFile := lastFile(t, s) // a file of a table that the queries do not name
	out := filepath.Join(temp, "out")
	t.Setenv("PARTD_TEST_SECRET", "hunter2")
	for _, sql := range []string{
		// Writing.
		"COPY t TO 'OUT'", "COPY (SELECT 1) TO 'OUT' (FORMAT csv)", "EXPORT DATABASE 'OUT'",
		"EXPLAIN ANALYZE COPY (SELECT 1) TO 'OUT'", "EXPLAIN COPY (SELECT 1) TO 'OUT'", "EXPLAIN ANALYZE SELECT * FROM t", "EXPLAIN (ANALYZE) SELECT * FROM t", "EXPLAIN /**/ ANALYZE SELECT * FROM t",
		"EXPLAIN SELECT * FROM read_text('/etc/passwd')", "EXPLAIN SELECT 1; COPY (SELECT 1) TO 'OUT'", "/* /* */ EXPLAIN SELECT 1; COPY (SELECT 1) TO 'OUT' */ SELECT 1", "EXPLAIN EXPLAIN SELECT 1", "EXPLAIN",
		"CREATE TABLE x (a INT)", "CREATE VIEW x AS SELECT 1", "CREATE MACRO x() AS 1", "CREATE TEMP TABLE x AS SELECT 1", "CREATE SECRET (TYPE s3)",
		"INSERT INTO t VALUES (1, 'a')", "UPDATE t SET k = 1", "DELETE FROM t", "TRUNCATE t", "DROP VIEW t", "ALTER VIEW t RENAME TO u",
		"CREATE OR REPLACE VIEW t AS SELECT * FROM read_parquet('OTHER')", "VACUUM", "CHECKPOINT", "BEGIN", "COMMIT",
		"WITH x AS (INSERT INTO t VALUES (1, 'a') RETURNING k) SELECT * FROM x", "MERGE INTO t USING t AS u ON true WHEN MATCHED THEN DELETE",
		// Other files.
		"SELECT * FROM read_parquet('OTHER')", "SELECT * FROM parquet_scan('OTHER')", "SELECT * FROM 'OTHER'", `SELECT * FROM "OTHER"`,
		"SELECT arrow_typeof(getenv('PARTD_TEST_SECRET'))", "SELECT arrow_typeof((SELECT content FROM read_text('/etc/passwd')))",
		"SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM read_csv_auto('/etc/passwd')", "SELECT * FROM '/etc/passwd.csv'",
		"SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM read_blob('/etc/passwd')", "SELECT * FROM glob('/*')", "SELECT * FROM GLOB('/*')",
		"SELECT * FROM read_json('/etc/passwd')", "SELECT * FROM read_ndjson_objects('/etc/passwd')", "SELECT * FROM sniff_csv('/etc/passwd')",
		"SELECT * FROM parquet_metadata('OTHER')", "SELECT * FROM parquet_schema('OTHER')", "SELECT * FROM parquet_file_metadata('OTHER')", "SELECT * FROM parquet_kv_metadata('OTHER')",
		"SELECT (SELECT count(*) FROM read_text('/etc/passwd'))", "SELECT * FROM t WHERE k IN (SELECT 1 FROM read_text('/etc/passwd'))",
		"SELECT 1 UNION ALL SELECT 2 FROM read_text('/etc/passwd')", "SELECT * FROM system.main.read_text('/etc/passwd')", "SELECT * FROM t, LATERAL (SELECT * FROM read_text('/etc/passwd'))",
		"SELECT * FROM t PIVOT (count(k) FOR s IN (SELECT content FROM read_text('/etc/passwd')))",
		"ATTACH 'OTHER' AS x", "ATTACH ':memory:' AS x", "DETACH memory", "USE memory", "IMPORT DATABASE '/tmp'", "LOAD httpfs", "INSTALL httpfs", "LOAD '/tmp/x.duckdb_extension'",
		// Settings and state.
		"SET memory_limit='1TB'", "SET lock_configuration=false", "SET enable_external_access=true", "RESET memory_limit", "PRAGMA database_list", "PRAGMA threads=99", "PRAGMA table_info('t')",
		"CALL pragma_version()", "SELECT * FROM pragma_version()", "SELECT current_setting('allowed_paths')", "SELECT Current_Setting('allowed_paths')", `SELECT "current_setting"('temp_directory')`,
		"SELECT system.main.current_setting('temp_directory')", "SELECT list_transform(['temp_directory'], lambda x: current_setting(x))", "SELECT 'temp_directory'.current_setting()",
		"SELECT getenv('PARTD_TEST_SECRET')", "SELECT getvariable('x')", "SELECT txid_current()", "SELECT current_transaction_id()", "SELECT current_query_id()", "SELECT current_connection_id()", "SET VARIABLE x = 1",
		"SELECT * FROM duckdb_settings()", "SELECT * FROM duckdb_views()", "SELECT * FROM duckdb_tables()", "SELECT * FROM duckdb_secrets()", "SELECT * FROM duckdb_logs()", "SELECT * FROM duckdb_temporary_files()",
		"SELECT * FROM duckdb_functions()", "SELECT * FROM duckdb_external_file_cache()", "SELECT * FROM duckdb_prepared_statements()", "SELECT pg_get_viewdef(1)", "SELECT * FROM enable_logging()", "SELECT * FROM which_secret('x', 's3')",
		"SELECT * FROM information_schema.tables", "SELECT * FROM pg_catalog.pg_views", "SELECT * FROM pg_views", "SELECT * FROM sqlite_master", "SELECT * FROM duckdb_views", "SELECT * FROM memory.information_schema.tables",
		"FROM (SHOW TABLES)", "FROM (SHOW ALL TABLES)", "SHOW TABLES FROM memory", "SHOW DATABASES", "SHOW SCHEMAS", "SHOW VARIABLES", "DESCRIBE databases", "SUMMARIZE tables", "EXPLAIN SHOW TABLES", "SHOW TABLES; SELECT 1",
		"DESCRIBE nothere", "SUMMARIZE read_text", "DESCRIBE SELECT * FROM read_csv('/etc/passwd')", "SUMMARIZE SELECT * FROM read_text('/etc/passwd')", "DESCRIBE 'OTHER'", "SUMMARIZE 'OTHER'", "FROM (SUMMARIZE 'OTHER')", "SHOW memory_limit",
		"DESCRIBE SELECT current_setting('temp_directory')", "DESCRIBE FROM duckdb_settings()", "DESCRIBE information_schema.tables", "SUMMARIZE duckdb_views", "DESCRIBE",
		// Functions that execute their text arguments, and prepared statements.
		"SELECT * FROM query('SELECT * FROM t')", "SELECT * FROM query_table('t')", "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))", "PRAGMA json_execute_serialized_sql('x')",
		"SELECT json_serialize_plan('SELECT * FROM t')", "EXECUTE x", "PREPARE x AS SELECT 1", "DEALLOCATE x", "SELECT * FROM histogram('t', k)", "SELECT * FROM histogram_values('t', k)",
		"SELECT * FROM sql_auto_complete('SEL')", "SELECT write_log('x')", "SELECT nextval('x')", "SELECT * FROM seq_scan('t')", "SELECT * FROM test_all_types()", "SELECT * FROM pandas_scan(1)", "SELECT * FROM arrow_scan(1, 2, 3)",
		// Several statements, or no statement.
		"SELECT 1; SELECT 2", "SELECT 1; COPY (SELECT 1) TO 'OUT'", "COPY (SELECT 1) TO 'OUT'; SELECT 1", "", ";", "-- nothing", "SELECT 1 \x00 FROM t",
		// Other tables, and locations.
		"SELECT * FROM nothere", "SELECT * FROM before.b.t", "SELECT * FROM t AT (VERSION => 1)", "SELECT filename FROM t", "SELECT file_row_number FROM t", "SELECT t.filename FROM t", "SELECT error(s) FROM t",
		"SELECT * FROM a.b.c", "SELECT CAST(s AS INTEGER) FROM t",
	} {
		sql = strings.NewReplacer("OUT", out, "OTHER", otherFile).Replace(sql)
		for _, op := range []string{"query", "describe"} {
			var err error
			o := &tables.QueryOptions{Bucket: "b"}
			if op == "query" {
				_, err = rows(t, s, sql, o)
			} else if tables.IsWrite(sql) {
				continue // Describe is for Exec too; see TestHostileExec
			} else if strings.Contains(sql, "error(s)") || strings.Contains(sql, "CAST(s") {
				continue // these fail only when they run
			} else {
				_, err = s.Describe(t.Context(), sql, o)
			}
			if err == nil {
				t.Errorf("%s %s succeeded, want an error", op, sql)
				continue
			}
			for _, path := range []string{s.Dir(), temp, "hunter2"} {
				if strings.Contains(err.Error(), path) && !strings.Contains(sql, path) {
					t.Errorf("%s %s: the error reveals a path or a secret: %v", op, sql, err)
				}
			}
		}
		if _, err := os.Stat(out); err == nil {
			t.Fatalf("%s wrote a file", sql)
		}
	}
	expect(t, s, "SELECT count(*) FROM t", &tables.QueryOptions{Bucket: "b"}, "10")
	text := "https://example.com" + os.TempDir() + "/x" // a value, and not a path
	expectError(t, s, "SELECT CAST('"+text+"' AS INTEGER)", nil, text)
}

// TestResourceExhaustion runs statements that would crash the process, use all its memory, or run for hours
// without checking for interrupts. All must fail.
func TestResourceExhaustion(t *testing.T) {
	s := newStore(t, nil)
	placeholders := strings.NewReplacer("NESTED", strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000), "AAA", strings.Repeat("a", 50_000), "MANY", "_"+strings.Repeat("%a", 50_000))
	for _, sql := range []string{
		"SELECT json_structure('NESTED')", "SELECT json_contains('NESTED', '1')", "SELECT json_transform('[]', 'NESTED')", "SELECT json_merge_patch('NESTED', '{}')",
		"SELECT 'NESTED'::JSON::VARIANT", "SELECT ['NESTED']::JSON[]::VARIANT[]", "SELECT variant_extract('NESTED'::JSON, 'a')",
		"SELECT repeat('a', 200000) LIKE repeat('%a', 200000)", "SELECT 'AAA' LIKE 'MANY'", "SELECT s ILIKE p FROM (SELECT 'AAA' AS s, 'MANY' AS p WHERE random() < 2)",
		"SELECT 'AAA' NOT LIKE 'MANY'", "SELECT 'AAA' NOT ILIKE 'MANY'", "SELECT 'AAA' GLOB '?*a*a*a*a*b'", "SELECT 'AAA' LIKE 'MANY' ESCAPE '$'", "SELECT system.main.like_escape('AAA', 'MANY', '$')",
		`SELECT "~~"('AAA', 'MANY')`, `SELECT system.main."~~"('AAA', 'MANY')`, "SELECT like_escape('AAA', 'MANY', '$')",
		"SELECT repeat('x', 2000000000)", "SELECT system.main.repeat('x', 2000000000)", "SELECT repeat([1], 2000000000)", "SELECT lpad('x', 2000000000, 'y')", "SELECT rpad('x', 2000000000, 'y')",
		"SELECT list_resize([1], 400000000)", "SELECT array_resize([1], 400000000, 2)", "SELECT bitstring('1', 2000000000)",
	} {
		if got, err := rows(t, s, placeholders.Replace(sql), nil); err == nil {
			t.Errorf("%s = %.100q, want an error", sql, got)
		}
	}
}

// TestGuardedFunctions checks that functions whose arguments are limited still work with ordinary arguments.
func TestGuardedFunctions(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 30))
	o := &tables.QueryOptions{Bucket: "b"}
	expect(t, s, `SELECT 'abcd' LIKE '%a%c%', 'a.cd' LIKE '%a%.%d', 'axcd' LIKE '%a%.%d', 'a\%b' LIKE '%\%%b', 'AxByC' ILIKE '%a%B%c', 'x' NOT LIKE '%a%b%c', 'AbC' NOT ILIKE '%a%b%c%', 'abc' GLOB 'a*', NULL LIKE '%a%a%a'`, nil,
		"true|true|false|true|true|true|false|true|(null)")
	expect(t, s, "SELECT 'a%cd' LIKE 'a$%%' ESCAPE '$', 'abcd' NOT LIKE 'a%' ESCAPE '$', 'abcd' ILIKE 'A%' ESCAPE '$', 'a' NOT ILIKE 'A%' ESCAPE '$'", nil, "true|false|true|false")
	expect(t, s, "SELECT repeat('ab', 3), repeat([1], 2), lpad('a', 3, 'b'), rpad('a', 3, 'b'), list_resize([1], 2), array_resize([1], 2, 7), bitstring('1', 4)::VARCHAR, repeat(NULL, 3), lpad(NULL, 3, 'x')", nil,
		"ababab|[1,1]|bba|abb|[1,null]|[1,7]|0001|(null)|(null)")
	expect(t, s, "SELECT count(*), count(*) FILTER (s LIKE '%s%1%') FROM t WHERE s LIKE '%s%' AND s LIKE 's_'", o, "30|3")
}

func TestErrorPositions(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "trades", numbers(0, 10))
	o := &tables.QueryOptions{Bucket: "b"}
	for sql, want := range map[string]string{
		"SELECT k FROM trades WHERE foo > 1":                 `line 1, column 28: Binder error: Referenced column "foo" not found`,
		"SELECT\n  'ä', fooo\nFROM trades":                   `line 2, column 8: Binder error: Referenced column "fooo" not found`,
		"SELECT k +\nFROM trades":                            "line 2, column 1: Parser error: syntax error at or near \"FROM\"",
		"SELECT nofunc(k) FROM trades":                       "line 1, column 8: Catalog error: Scalar Function with name nofunc does not exist!",
		"SELECT k\nFROM   tradse":                            `line 2, column 8: table "b"."tradse" does not exist (did you mean "trades"?)`,
		"SELECT CAST(s AS INT) FROM trades":                  "Could not convert string 's0' to INT32",
		"SELECT k, read_it(k) FROM read_csv('x')":            `line 1, column 27: table function "read_csv" is not available`,
		"SELECT $1 + 1":                                      "the statement has 1 parameters, but no values were given",
		"PIVOT trades ON s USING sum(k)":                     "only a single SELECT statement is allowed: a PIVOT without IN",
		"SELECT sum(k * 9223372036854775807) FROM trades":    "Overflow",
		"SELECT sum(9223372036854775807) AS big FROM trades": `column "big" contains 92233720368547758070, which does not fit into 64 bits: cast it to DECIMAL(38, 0)`,
	} {
		_, err := rows(t, s, sql, o)
		must.Fail(t, err, want, "%s", sql)
		var sqlErr *tables.SQLError
		if strings.HasPrefix(want, "line") && (!errors.As(err, &sqlErr) || sqlErr.Line == 0) {
			t.Errorf("%s: error %v is not an SQLError with a position", sql, err)
		}
	}
	must.Fail(t, must.Err(rows(t, s, "FROM tradse", o)), tables.ErrNotFound, "query of a misspelled table")
	expect(t, s, "SELECT sum(9223372036854775807)::DECIMAL(38,0) FROM trades", o, "92233720368547758070")
	expect(t, s, "SELECT sum(k), sum(-k), sum(NULL::BIGINT) FROM trades", o, "45|-45|(null)")
}

func TestCancel(t *testing.T) {
	s := newStore(t, nil)
	for name, sql := range map[string]string{
		"before the first row": "SELECT count(*) FROM range(1000000000000)",
		"while reading rows":   "SELECT * FROM range(1000000000000)",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var cancelled time.Time
		time.AfterFunc(300*time.Millisecond, func() { cancelled = time.Now(); cancel() })
		r, err := s.Query(ctx, sql, nil)
		if err == nil {
			_, err = tabletest.CountRows(r)
		}
		elapsed := time.Since(cancelled)
		if !errors.Is(err, context.Canceled) || elapsed > 500*time.Millisecond {
			t.Errorf("%s: error = %v %v after the cancellation, want context.Canceled within 500ms", name, err, elapsed)
		}
		t.Logf("%s: %v", name, elapsed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must.Fail(t, must.Err(s.Query(ctx, "SELECT 1", nil)), context.Canceled, "Query with a canceled context")
}

// TestSQLErrorsWithoutPaths checks that the SQLError of an error whose text has no path has none either, and that it keeps
// its position.
func TestSQLErrorsWithoutPaths(t *testing.T) {
	s := newStore(t, nil)
	_, err := s.Query(t.Context(), `SELECT 1 FROM "`+s.Dir()+`/x"`, nil)
	e, ok := errors.AsType[*tables.SQLError](err)
	if !ok || e.Line != 1 || strings.Contains(err.Error()+e.Error()+e.Err.Error(), s.Dir()) {
		t.Errorf("error %v has the SQLError %+v, want one at line 1 that lacks %s", err, e, s.Dir())
	}
}

// TestExecErrorsWithoutPosition checks that errors of DuckDB are SQLErrors, and that they have no position: DuckDB ran
// a query that the user did not write.
func TestExecErrorsWithoutPosition(t *testing.T) {
	s := newStore(t, nil)
	put(t, s, "b", "t", numbers(0, 10))
	for _, sql := range []string{
		"UPDATE t SET s = nothere WHERE k = 1", "UPDATE t SET s = '' WHERE k + >= 1", "DELETE FROM t WHERE nothere = 1", "DELETE FROM t USING (SELECT nothere FROM t) u",
		"MERGE INTO t USING (SELECT 1 AS i) u ON k = nothere WHEN MATCHED THEN DELETE", "MERGE INTO t USING (SELECT nothere) u ON k = 1 WHEN MATCHED THEN DELETE",
		"INSERT INTO t SELECT nothere, s FROM t", "INSERT INTO t VALUES (nothere, 'a')", "CREATE TABLE x AS SELECT nothere FROM t", "UPDATE t SET k = s::INT",
	} {
		_, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"})
		if e, ok := errors.AsType[*tables.SQLError](err); !ok || e.Line != 0 || strings.Contains(err.Error(), "line ") {
			t.Errorf("%s: error %v, want an SQLError without a position", sql, err)
		}
	}
}
