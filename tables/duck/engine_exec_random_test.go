//go:build cgo

package duck_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	duckdb "github.com/duckdb/duckdb-go-bindings"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
)

// plainDuckDB is a DuckDB database in memory, which knows nothing of partd.
type plainDuckDB struct {
	t    testing.TB
	db   duckdb.Database
	conn duckdb.Connection
}

func newPlainDuckDB(t testing.TB) *plainDuckDB {
	p := &plainDuckDB{t: t}
	if duckdb.Open(":memory:", &p.db) == duckdb.StateError || duckdb.Connect(p.db, &p.conn) == duckdb.StateError {
		t.Fatal("cannot open DuckDB")
	}
	t.Cleanup(func() {
		duckdb.Disconnect(&p.conn)
		duckdb.Close(&p.db)
	})
	must.Get(p.exec("SET TimeZone='UTC'"))(t)
	return p
}

// exec runs a statement, and returns the number of rows that it changed, or an error.
func (p *plainDuckDB) exec(sql string) (int64, error) {
	var r duckdb.Result
	defer duckdb.DestroyResult(&r)
	if duckdb.Query(p.conn, sql, &r) == duckdb.StateError {
		return 0, fmt.Errorf("%s", duckdb.ResultError(&r))
	}
	return int64(duckdb.RowsChanged(&r)), nil
}

// text returns the only value of a query, which must be a VARCHAR.
func (p *plainDuckDB) text(sql string) string {
	var r duckdb.Result
	defer duckdb.DestroyResult(&r)
	if duckdb.Query(p.conn, sql, &r) == duckdb.StateError {
		p.t.Fatalf("%s: %s", sql, duckdb.ResultError(&r))
	}
	chunk := duckdb.FetchChunk(r)
	defer duckdb.DestroyDataChunk(&chunk)
	return duckdb.StringTData((*duckdb.StringT)(duckdb.VectorGetData(duckdb.DataChunkGetVector(chunk, 0))))
}

// sampleValues maps SQL types to expressions for values of the type.
var sampleValues = map[string][]string{
	"INTEGER": {"-5", "0", "7"}, "UTINYINT": {"0", "255"}, "TINYINT": {"-128", "127"}, "SMALLINT": {"-32768"}, "BIGINT": {"-9223372036854775808", "9223372036854775807"}, "USMALLINT": {"65535"},
	"UINTEGER": {"4294967295"}, "UBIGINT": {"18446744073709551615", "0"}, "TIMESTAMP_MS": {"'2026-11-26 00:00:00.001'"}, "INTEGER[2]": {"[1, NULL]"}, "UTINYINT[][]": {"[[255], NULL, []]"}, "DOUBLE": {"'nan'", "-1.5", "1e400", "0"}, "FLOAT": {"'nan'", "2.5"},
	"VARCHAR": {"''", "'a'", "'WHERE'"}, "BLOB": {"'\\xFF'", "''"}, "BOOLEAN": {"true", "false"}, "DATE": {"'1969-12-31'", "'2026-11-26'"},
	"TIMESTAMP": {"'2026-11-26 00:00:00.000001'"}, "TIMESTAMPTZ": {"'2026-11-26 00:00:00+01'"}, "TIMESTAMP_NS": {"'2026-11-26 00:00:00.000000001'"}, "TIMESTAMP_S": {"'2026-11-26 00:00:01'"}, "TIME": {"'12:00:00.5'"},
	"DECIMAL(10, 2)": {"1.25", "-99999999.99"}, "DECIMAL(38, 0)": {"99999999999999999999999999999999999999"}, "UUID": {"'00000000-0000-0000-0000-000000000001'"},
	"INTEGER[]": {"[1, NULL]", "[]"}, "STRUCT(x INTEGER, y VARCHAR[])": {"{'x': 1, 'y': ['a', NULL]}", "{'x': NULL, 'y': []}"}, "MAP(VARCHAR, INTEGER)": {"MAP {'a': 1}", "MAP {}"},
}

// randomSeed returns the seed in PARTD_TABLES_RANDOM_SEED, or a random one.
func randomSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(rand.Int64())
	if text := os.Getenv("PARTD_TABLES_RANDOM_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d", seed)
	return seed
}

// TestRandomExec runs random statements with Exec and in plain DuckDB. The rows and the numbers of changed rows must be
// equal. PARTD_TABLES_RANDOM_STATEMENTS sets the number of statements, and PARTD_TABLES_RANDOM_SEED the seed. With few
// statements, the rows are compared after every second one.
func TestRandomExec(t *testing.T) {
	n := procs.Number(t, "PARTD_TABLES_RANDOM_STATEMENTS", 90)
	seed := randomSeed(t)
	kinds := execKinds()
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(kind, func(t *testing.T) {
			r := &randomStatements{Rand: rand.New(rand.NewPCG(seed, 0))}
			kind := kinds[kind]
			if kind.open == nil {
				kind.open = func(t *testing.T) *tables.Store { return newStore(t, nil) }
			}
			s, p := kind.open(t), newPlainDuckDB(t)
			perTable := min(20, n/len(kinds))
			for done := 0; done < n/len(kinds); done += perTable {
				r.newTable()
				both(t, s, p, "CREATE OR REPLACE TABLE t ("+r.columns()+")")
				if kind.configure != nil {
					kind.configure(t, s, s.Bucket("b").Table("t"))
				}
				for i := range perTable {
					after := r.statement()
					sameCount(t, s, p, after)
					foldOrCompact(t, s, r)
					if kind.between != nil {
						after += ", and " + kind.between(t, s, p, r)
					}
					if i%2 == 1 || n > 90 {
						wantRows(t, s, p, after)
					}
					if t.Failed() {
						return
					}
				}
				condition, total := r.condition("t"), int64(0)
				for _, format := range []string{"%s", "NOT (%s)", "(%s) IS NULL"} {
					result := must.Get(s.Exec(t.Context(), "DELETE FROM t WHERE "+fmt.Sprintf(format, condition), &tables.ExecOptions{Bucket: "b", DryRun: true}))(t)
					total += result.Rows
				}
				expect(t, s, "SELECT count(*) FROM b.t", nil, fmt.Sprint(total))
			}
		})
	}
}

// both runs a statement with Exec and in plain DuckDB, and compares the results.
func both(t *testing.T, s *tables.Store, p *plainDuckDB, sql string) {
	t.Helper()
	if sameCount(t, s, p, sql) {
		wantRows(t, s, p, sql)
	}
}

// sameCount runs a statement as both does, but compares only the errors and the numbers of changed rows.
func sameCount(t *testing.T, s *tables.Store, p *plainDuckDB, sql string) bool {
	t.Helper()
	want, wantErr := p.exec(sql)
	got, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"})
	if (err == nil) != (wantErr == nil) || got.Rows != want {
		t.Errorf("%s\n= %d rows, error %v; plain DuckDB: %d rows, error %v", sql, got.Rows, err, want, wantErr)
		return false
	}
	return true
}

// allRows is a query that returns the sorted rows of the table t as one text.
const allRows = "SELECT coalesce(string_agg(r, chr(10) ORDER BY r), '') FROM (SELECT t::VARCHAR AS r FROM t)"

// wantRows checks that the table t has the same rows in s as in plain DuckDB. The text after describes the last change.
func wantRows(t *testing.T, s *tables.Store, p *plainDuckDB, after string) {
	t.Helper()
	if have, want := onlyValue(t, s, allRows, &tables.QueryOptions{Bucket: "b"}), p.text(allRows); have != want {
		t.Errorf("after %s, the rows are\n%s\nplain DuckDB:\n%s", after, have, want)
	}
}

// onlyValue returns the only value of a query, as text.
func onlyValue(t *testing.T, s *tables.Store, sql string, o *tables.QueryOptions) string {
	t.Helper()
	return strings.Join(must.Get(rows(t, s, sql, o))(t), "\n")
}

// randomStatements generates statements on a table t.
type randomStatements struct {
	*rand.Rand
	types []string // types of the columns v0, v1, …
	next  int      // next value of the column id
}

func (r *randomStatements) newTable() {
	all := make([]string, 0, len(sampleValues))
	for typ := range sampleValues {
		all = append(all, typ)
	}
	slices.Sort(all)
	r.types = nil
	for range 1 + r.IntN(4) {
		r.types = append(r.types, all[r.IntN(len(all))])
	}
	r.next = 0
}

func (r *randomStatements) columns() string {
	list := "id INTEGER, k INTEGER, ts TIMESTAMP"
	for i, typ := range r.types {
		list += fmt.Sprintf(", v%d %s", i, typ)
	}
	return list
}

func (r *randomStatements) one(choices ...string) string { return choices[r.IntN(len(choices))] }

// value returns an expression for a value of column vi.
func (r *randomStatements) value(i int) string {
	if r.IntN(4) == 0 {
		return r.one("NULL", "DEFAULT")
	}
	return r.one(sampleValues[r.types[i]]...)
}

func (r *randomStatements) row() string {
	id := r.next
	r.next++
	values := fmt.Sprintf("(%d, %s, TIMESTAMP '2026-01-01' + INTERVAL (%d) HOUR", id, r.one("NULL", "0", "1", "2", "3"), id*7%50)
	for i := range r.types {
		values += ", " + r.value(i)
	}
	return values + ")"
}

func (r *randomStatements) condition(table string) string {
	i := r.IntN(len(r.types))
	other := r.one(sampleValues[r.types[i]]...)
	column := fmt.Sprintf("%s.v%d", table, i)
	return r.one(
		table+".k = 1", table+".k <> 2 /* ; */", "NOT "+table+".k > 1", table+".id % 3 = 0", table+".k IS NULL", table+".id < 10 OR "+table+".k IN (0, 3)",
		column+" IS NULL", column+" = CAST("+other+" AS "+r.types[i]+")", column+" IS DISTINCT FROM CAST("+other+" AS "+r.types[i]+")",
		table+".k = (SELECT max(k) FROM t)", "EXISTS (SELECT * FROM t AS other WHERE other.id = "+table+".id + 1)",
		"CASE WHEN "+table+".k = 1 THEN "+table+".id > 5 ELSE false END")
}

func (r *randomStatements) statement() string {
	i := r.IntN(len(r.types))
	assign := fmt.Sprintf("v%d = %s", i, r.value(i))
	switch r.IntN(14) {
	case 6: // each WHEN at most once without a condition, and last
		r.next = max(r.next, 30) // the statement may insert the ids of its source
		source := "(SELECT i::INTEGER AS id, i % 4 AS k, TIMESTAMP '2026-02-01' + to_hours(i::INTEGER) AS ts, CAST(" + r.one(sampleValues[r.types[i]]...) + " AS " + r.types[i] + fmt.Sprintf(") AS v%d FROM range(%s) r(i))", i, r.one("5", "30"))
		name := fmt.Sprintf("s(id, k, ts, v%d)", i)
		if r.IntN(2) == 0 {
			name = "AS s"
		}
		merge := "MERGE INTO t USING " + source + " " + name + " ON t.id = s.id"
		for _, kind := range []string{"MATCHED", "NOT MATCHED", "NOT MATCHED BY SOURCE"} {
			for n := r.IntN(3); n > 0; n-- {
				condition := ""
				if n > 1 || r.IntN(2) == 0 {
					condition = " AND " + r.mergeCondition(kind)
				}
				merge += " WHEN " + kind + condition + " THEN " + r.mergeAction(kind, i)
			}
		}
		if strings.Contains(merge, "WHEN") {
			return merge
		}
	case 7:
		return fmt.Sprintf("INSERT INTO t (k, id, ts, v%d) ", i) + r.one("SELECT ", "WITH q AS (SELECT 1) SELECT ", "SELECT DISTINCT ") + fmt.Sprintf("k + 1, id + %d, ts, v%d FROM t WHERE ", 100000+r.Int32N(1<<30), i) + r.condition("t") + r.one("", fmt.Sprintf(" UNION ALL SELECT 1, %d, '2026-03-01', CAST(%s AS %s)", 100000+r.Int32N(1<<30), r.one(sampleValues[r.types[i]]...), r.types[i]))
	case 8:
		return "WITH q AS (SELECT max(id) AS m FROM t) UPDATE t SET k = length(repeat('a', 2)), " + assign + " WHERE id = (SELECT m FROM q) OR CAST(id AS VARCHAR) LIKE '%1%2%3%' OR " + r.condition("t")
	case 0:
		return "DELETE FROM t WHERE " + r.condition("t")
	case 1:
		return "DELETE FROM t AS a USING (SELECT * FROM range(" + r.one("3", "20") + ") s(i)) AS u WHERE a.id = u.i AND (" + r.condition("a") + ")"
	case 2:
		return "UPDATE t SET " + assign + ", k = k + 1 WHERE " + r.condition("t")
	case 3:
		return "UPDATE t AS a SET k = u.i, " + assign + " FROM range(5) u(i) WHERE a.id = u.i * 2"
	case 4:
		merge := "MERGE INTO t AS a USING (SELECT i::INTEGER AS i, i % 4 AS j FROM range(" + r.one("5", "30") + ") s(i)) AS u ON a.id = u.i"
		if condition := r.condition("a"); !strings.Contains(condition, "SELECT") {
			merge += " WHEN MATCHED AND " + condition + " THEN DELETE"
		}
		merge += " WHEN MATCHED AND u.j = 1 THEN UPDATE SET " + assign + " WHEN MATCHED AND u.j = 2 THEN DO NOTHING WHEN MATCHED THEN UPDATE SET k = u.j"
		if r.IntN(2) == 0 {
			merge += fmt.Sprintf(" WHEN NOT MATCHED AND u.j <> 3 THEN INSERT (id, k, ts) VALUES (u.i + %d, j, '2026-02-01')", 1000+r.next*100)
			r.next++
		}
		if r.IntN(2) == 0 {
			merge += " WHEN NOT MATCHED BY SOURCE AND a.k = 2 THEN UPDATE SET " + assign + " WHEN NOT MATCHED BY SOURCE AND a.k = 3 THEN DELETE"
		}
		return merge
	case 5:
		return fmt.Sprintf("INSERT INTO t BY NAME SELECT id + %d AS id, ts + INTERVAL 1 MINUTE AS ts, v%d FROM t WHERE id < 5", 100000+r.Int32N(1<<30), i)
	}
	values := make([]string, 1+r.IntN(8))
	for n := range values {
		values[n] = r.row()
	}
	return "INSERT INTO t VALUES " + strings.Join(values, ", ")
}

// mergeCondition returns a condition on the rows that a WHEN selects.
func (r *randomStatements) mergeCondition(kind string) string {
	table := "t"
	if kind == "NOT MATCHED" {
		table = "s"
	}
	id := "CAST(" + table + ".id AS VARCHAR)"
	return r.one(id+" LIKE '%1%'", id+" NOT LIKE '1%'", id+" GLOB '*2'", "lpad("+id+", 3, '0') < '010'", "random() >= 0", "uuid() IS NULL", table+".k = 1", table+".k IS NULL", table+".id % 3 = 0")
}

// mergeAction returns an action for the rows that a WHEN selects.
func (r *randomStatements) mergeAction(kind string, i int) string {
	switch kind {
	case "MATCHED":
		return r.one("DELETE", "DO NOTHING", "UPDATE BY NAME", fmt.Sprintf("UPDATE SET v%d = s.v%[1]d, k = CASE WHEN random() >= 0 THEN length(repeat('a', 3)) END", i))
	case "NOT MATCHED":
		return r.one("DO NOTHING", "INSERT BY NAME", fmt.Sprintf("INSERT (v%d, id, ts) VALUES (s.v%[1]d, s.id + %d, s.ts)", i, 100000+r.Int32N(1<<30)))
	}
	return r.one("DELETE", "DO NOTHING", fmt.Sprintf("UPDATE SET v%d = %s, k = t.k + 1", i, r.value(i)))
}

// FuzzExec compares Exec with plain DuckDB. Exec may refuse statements that DuckDB runs. A statement that both run must
// have the same effect, and Exec must not run a statement that DuckDB's parser refuses.
func FuzzExec(f *testing.F) {
	for _, sql := range []string{
		"INSERT INTO t VALUES (1, 'a'), (2, DEFAULT)", "INSERT INTO t (b) SELECT b FROM t /* ; */ WHERE a > 1 -- x", "DELETE FROM t AS x WHERE x.a = 1 AND b <> 'it''s'",
		"DELETE FROM t USING t AS u WHERE t.a = u.a + 1", "UPDATE t SET b = CASE WHEN a IS DISTINCT FROM 1 THEN 'x' END, a = a + 1 WHERE b = $$b$$",
		"UPDATE t SET a = u.a FROM (SELECT 1 AS a, 'b' AS b) AS u WHERE t.b = u.b", "WITH x AS (SELECT 2 AS a) UPDATE t SET b = 'x' WHERE a IN (SELECT a FROM x)",
		"MERGE INTO t USING (VALUES (1), (9)) AS u(i) ON a = i WHEN MATCHED AND b = E'\\'' THEN DELETE WHEN MATCHED THEN UPDATE SET b = 'm' WHEN NOT MATCHED THEN INSERT (a) VALUES (i)",
		"MERGE INTO t USING t AS u USING (a) WHEN MATCHED THEN UPDATE SET b = u.b || '!'", "TRUNCATE t", "DELETE FROM t", `DELETE FROM "t" WHERE "a" = 1e0`, "INSERT INTO t BY NAME SELECT 5 AS a", "INSERT INTO t DEFAULT VALUES",
		"INSERT INTO t VALUES (1,,3)", "INSERT INTO t VALUES ()", "INSERT INTO t VALUES (8, 'x',)", "MERGE INTO t USING (VALUES (1)) AS u(i) ON false WHEN NOT MATCHED THEN INSERT VALUES (i,,'v')",
		"MERGE INTO t USING (VALUES (1)) AS u(i) ON false WHEN NOT MATCHED THEN INSERT VALUES (,1)",
		"MERGE INTO t USING (SELECT 7 AS a, 'z' AS b) AS u ON t.a = u.a WHEN NOT MATCHED THEN INSERT * WHEN NOT MATCHED BY SOURCE THEN DELETE",
	} {
		f.Add(sql)
	}
	s := newStore(f, nil)
	f.Fuzz(func(t *testing.T, sql string) {
		if len(sql) > 300 || strings.Contains(sql, "\x00") {
			return
		}
		for _, word := range []string{"random", "uuid", "now", "current", "local", "today", "attach", "create", "drop", "alter", "set ", "pragma", "copy", "range", "generate", "sample"} {
			if strings.Contains(strings.ToLower(sql), word) && (word != "set " || !strings.Contains(strings.ToLower(sql), "update")) {
				return
			}
		}
		p := newPlainDuckDB(t)
		const table = "CREATE OR REPLACE TABLE t AS SELECT * FROM (VALUES (1, 'a'), (2, 'b'), (3, NULL), (NULL, 'it''s')) AS v(a, b)"
		must.Get(p.exec(table))(t)
		must.Get(s.Exec(t.Context(), table, &tables.ExecOptions{Bucket: "b"}))(t)
		got, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"})
		if err != nil {
			return
		}
		want, err := p.exec(sql)
		if err != nil {
			if strings.Contains(err.Error(), "Parser Error") {
				t.Fatalf("%q ran, but DuckDB refuses it: %v", sql, err)
			}
			return
		}
		have, err := rows(t, s, allRows, &tables.QueryOptions{Bucket: "b"})
		if wantRows := p.text(allRows); err != nil || got.Rows != want || strings.Join(have, "") != wantRows {
			t.Fatalf("%q = %d rows, and the table is\n%s\nerror %v; plain DuckDB: %d rows, and\n%s", sql, got.Rows, have, err, want, wantRows)
		}
	})
}
