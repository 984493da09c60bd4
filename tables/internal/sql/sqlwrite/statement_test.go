package sqlwrite

import (
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

func TestRefused(t *testing.T) {
	transaction := "there are no transactions: each statement is one commit; connect with autocommit"
	constraint := "a column has only a name and a type: use rules to check values (docs/evolve.md)"
	returning := "RETURNING is not supported: a change returns its number of rows"
	conflict := "tables have no unique index: use MERGE INTO"
	for sql, want := range map[string]string{
		"MERGE INTO t USING u ON t.i = u.i" + strings.Repeat(" WHEN MATCHED AND a THEN DELETE", 101): "at most 100 actions",

		"BEGIN": transaction, "begin transaction": transaction, "START TRANSACTION": transaction, "COMMIT": transaction, "/* x */ ROLLBACK": transaction, "END": transaction,
		"DELETE FROM t; DELETE FROM u": "only one statement is allowed", "DELETE FROM t; COPY t TO 'x'": "only one statement is allowed",
		"INSERT INTO t VALUES (1) RETURNING a":                                         returning,
		"DELETE FROM t WHERE a = 1 RETURNING *":                                        returning,
		"UPDATE t SET a = 1 RETURNING a":                                               returning,
		"MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE RETURNING a":            returning,
		"INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING":                              conflict,
		"INSERT INTO t SELECT 1 ON CONFLICT (a) DO UPDATE SET a = 2":                   conflict,
		"INSERT OR REPLACE INTO t VALUES (1)":                                          conflict,
		"INSERT OR IGNORE INTO t VALUES (1)":                                           conflict,
		"CREATE TABLE t (a INT PRIMARY KEY)":                                           constraint,
		"CREATE TABLE t (a INT NOT NULL)":                                              constraint,
		"CREATE TABLE t (a INT DEFAULT 1)":                                             constraint,
		"CREATE TABLE t (a INT, CHECK (a > 0))":                                        constraint,
		"CREATE TABLE t (a INT, b INT AS (a + 1))":                                     constraint,
		"CREATE TABLE t (a INT, b INT GENERATED ALWAYS AS (a + 1))":                    constraint,
		"CREATE TABLE t (a INT UNIQUE)":                                                constraint,
		"CREATE TABLE t (a INT REFERENCES u (a))":                                      constraint,
		"ALTER TABLE t ADD COLUMN a INT DEFAULT 1":                                     constraint,
		"ALTER TABLE t ADD PRIMARY KEY (a)":                                            constraint,
		"ALTER TABLE t ALTER a SET NOT NULL":                                           constraint,
		"ALTER TABLE t ALTER a SET DEFAULT 1":                                          constraint,
		"CREATE VIEW v AS SELECT 1":                                                    "CREATE VIEW is not supported: only tables are stored",
		"CREATE OR REPLACE VIEW v AS SELECT 1":                                         "CREATE VIEW is not supported: only tables are stored",
		"CREATE TEMP TABLE v AS SELECT 1":                                              "CREATE TEMP is not supported: only tables are stored",
		"CREATE TEMPORARY TABLE v (a INT)":                                             "CREATE TEMP is not supported: only tables are stored",
		"CREATE OR REPLACE TEMP VIEW v AS SELECT 1":                                    "CREATE TEMP is not supported: only tables are stored",
		"CREATE INDEX i ON t (a)":                                                      "CREATE INDEX is not supported: only tables are stored",
		"CREATE UNIQUE INDEX i ON t (a)":                                               "CREATE INDEX is not supported: only tables are stored",
		"CREATE SEQUENCE s":                                                            "CREATE SEQUENCE is not supported: only tables are stored",
		"CREATE MACRO m() AS 1":                                                        "CREATE MACRO is not supported: only tables are stored",
		"CREATE SECRET (TYPE s3)":                                                      "CREATE SECRET is not supported: only tables are stored",
		"DROP VIEW v":                                                                  "DROP VIEW is not supported: only tables are stored",
		"DELETE FROM t USING u UNION ALL SELECT 9, 9, 0":                               "UNION does not fit here",
		"UPDATE t SET a = 1 FROM u GROUP BY ALL":                                       "GROUP does not fit here",
		"MERGE INTO t USING u LIMIT 1 ON true WHEN MATCHED THEN DELETE":                "LIMIT does not fit here",
		"MERGE INTO t USING u USING (a) UNION SELECT 9, 9, 0 WHEN MATCHED THEN DELETE": "WHEN MATCHED",
		"MERGE INTO t USING u ON true WHEN MATCHED AND a IN (SELECT 1) THEN DELETE":    "cannot have a subquery",
		"COPY t TO 'x'":                      "COPY is not supported",
		"ATTACH 'x'":                         "ATTACH is not supported",
		"SET threads = 1":                    "SET is not supported",
		"CALL f()":                           "CALL is not supported",
		"INSTALL httpfs":                     "INSTALL is not supported",
		"LOAD httpfs":                        "LOAD is not supported",
		"":                                   "line 1, column 1: the statement is empty",
		"SELECT 1":                           "SELECT is not supported",
		"DELETE FROM t WHERE COLUMNS(*) > 1": "COLUMNS and #1 are not supported here",
		"UPDATE t SET a = hash(t.*)":         "* is not supported here",
		"UPDATE t SET (a, b) = (1, 2)":       "assign each column separately",
		"DELETE FROM t WHERE a = 'x":         "a quote is not closed",
		"DELETE FROM t WHERE (a = 1":         "a bracket or a CASE is not closed",
		"DELETE FROM t WHERE a = 1)":         ") closes nothing",
		"DELETE FROM t /* x":                 "a comment is not closed",
		"DELETE FROM t LIMIT 1":              `"LIMIT" comes where`,
		"DELETE FROM t\u00a0WHERE a = 1":     "invisible",
		"DELETE FROM a.b.c":                  "the table must be",
		"INSERT INTO t VALUES (1,,3)":        `"," comes where an expression is expected`,
		"INSERT INTO t VALUES (1), ()":       `")" comes where an expression is expected`,
		"MERGE INTO t USING u ON true WHEN NOT MATCHED THEN INSERT VALUES (i,,v)":                            `"," comes where an expression is expected`,
		"MERGE INTO t USING u ON true WHEN NOT MATCHED THEN INSERT VALUES (,1)":                              `"," comes where an expression is expected`,
		"MERGE INTO t USING u, v ON true WHEN MATCHED THEN DELETE":                                           "must be one table or one subquery",
		"MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE WHEN MATCHED AND a = 1 THEN UPDATE SET a = 1": "no row reaches this WHEN",
		"MERGE INTO t USING u ON true":                                                                       "the statement ends where WHEN is expected",
		"MERGE INTO t USING u ON true WHEN MATCHED THEN INSERT VALUES (1)":                                   "INSERT does not fit",
		"MERGE INTO t USING u ON true WHEN NOT MATCHED THEN DELETE":                                          "DELETE does not fit",
		"MERGE INTO t USING u ON true WHEN NOT MATCHED THEN UPDATE SET a = 1":                                "UPDATE does not fit",
	} {
		_, err := Parse(sql)
		must.Fail(t, err, want, "Parse(%q)", sql)
	}
}

// TestLongStatement checks that Parse and IsWrite refuse a statement that is too long before they allocate memory for
// it, and that the time that Parse takes grows linearly with the number of parameters.
func TestLongStatement(t *testing.T) {
	sql := "DELETE FROM t WHERE " + strings.Repeat("(", 1<<20)
	var err error
	var isWrite bool
	allocated := procs.Allocated(func() {
		_, err = Parse(sql)
		isWrite = IsWrite(sql)
	})
	if err == nil || err.Error() != "the statement has 1048596 bytes: the limit is 262144" || isWrite {
		t.Errorf("1 MiB: Parse returned the error %v, and IsWrite %v", err, isWrite)
	}
	if allocated > 1<<20 {
		t.Errorf("Parse and IsWrite allocated %d bytes, want less than 1 MiB", allocated)
	}
	begin := time.Now()
	st, err := Parse("INSERT INTO t VALUES (?" + strings.Repeat(",?", 100_000) + ")")
	if err != nil || st.Values[0][100_000] != "$100001" {
		t.Errorf("Parse of 100,001 parameters: error %v", err)
	}
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("Parse took %v, want a few milliseconds", d)
	}
}

// TestRepeatedNames checks that no two parameters of several sets have the same name.
func TestRepeatedNames(t *testing.T) {
	st := must.Get(Parse("INSERT INTO t VALUES ($a, $a_1)"))(t)
	q := must.Get(st.InsertQuery([]Column{{"a", "INTEGER"}, {"b", "INTEGER"}}, nil, 2, 2))(t)
	for _, name := range []string{"a", "a_1"} {
		for set := range 2 {
			if p := "(($" + RepeatedName(name, 2, set) + "\n)"; strings.Count(q, p) != 1 {
				t.Errorf("the query names %q %d times, want once:\n%s", p, strings.Count(q, p), q)
			}
		}
	}
}

// TestIsWrite checks that IsWrite distinguishes statements for Exec from statements for Query.
func TestIsWrite(t *testing.T) {
	for sql, want := range map[string]bool{
		"insert into t values (1)": true, "-- x\nDELETE FROM t": true, "WITH x AS (SELECT 1), y(a) AS MATERIALIZED (SELECT ')') UPDATE t SET a = 1": true,
		"CREATE VIEW v AS SELECT 1": true, "COMMIT": true, "TRUNCATE t": true,
		"SELECT 1": false, "WITH x AS (SELECT 1) SELECT update FROM x": false, "(SELECT 1)": false, "FROM t": false, "VALUES (1)": false, "DESCRIBE t": false,
		"EXPLAIN DELETE FROM t": false, "COPY t TO 'x'": false, "": false, "'": false, `"delete" FROM t`: false,
	} {
		if got := IsWrite(sql); got != want {
			t.Errorf("IsWrite(%q) = %v, want %v", sql, got, want)
		}
	}
}

// TestQueries checks the queries of statements that contain keywords in texts and expressions, where they begin no
// clause.
func TestQueries(t *testing.T) {
	columns := []Column{{"a", "INTEGER"}, {"b", "VARCHAR"}}
	for sql, want := range map[string]string{
		"DELETE FROM t": `SELECT "t"."partd file", "t"."partd row", 0 AS "partd action" FROM T AS "t" ORDER BY 1, 2`,
		"DELETE FROM t x USING u WHERE x.a = ? AND u.b IN (?)": `SELECT "x"."partd file", "x"."partd row", 0 AS "partd action" FROM T AS "x", u
 WHERE (x.a = $1 AND u.b IN ($2)
) ORDER BY 1, 2`,
		"UPDATE t SET a = CASE WHEN b IS DISTINCT FROM 'FROM' THEN 1 END WHERE b = $$ WHERE $$": `SELECT "t"."partd file", "t"."partd row", 0 AS "partd action", CAST((CASE WHEN b IS DISTINCT FROM 'FROM' THEN 1 END
) AS INTEGER) AS "partd value 0" FROM T AS "t" WHERE (b = $$ WHERE $$
) ORDER BY 1, 2`,
	} {
		st, err := Parse(sql)
		if err != nil {
			t.Errorf("Parse(%q): %v", sql, err)
			continue
		}
		c, err := st.ChangeQuery("T", columns, nil)
		if err != nil || c.SQL != want {
			t.Errorf("query of %q =\n%s\nerror %v; want\n%s", sql, c.SQL, err, want)
		}
	}
	for sql, want := range map[string]string{
		"INSERT INTO t (b) VALUES (?), (DEFAULT)":                    "SELECT * FROM (VALUES (CAST(($1\n) AS VARCHAR)), (CAST((NULL\n) AS VARCHAR)), (CAST(($2\n) AS VARCHAR)), (CAST((NULL\n) AS VARCHAR))) AS q(\"b\")",
		"INSERT INTO t (SELECT 1, 2)":                                "SELECT CAST((c0\n) AS INTEGER) AS \"a\", CAST((c1\n) AS VARCHAR) AS \"b\" FROM ((SELECT 1, 2)\n) AS q(c0, c1)",
		"WITH x AS (SELECT 1 y) INSERT INTO t (B, a) FROM x, x -- z": "SELECT CAST((c0\n) AS VARCHAR) AS \"b\", CAST((c1\n) AS INTEGER) AS \"a\" FROM (WITH x AS (SELECT 1 y) FROM x, x\n) AS q(c0, c1)",
	} {
		st, err := Parse(sql)
		if err != nil {
			t.Errorf("Parse(%q): %v", sql, err)
			continue
		}
		q, err := st.InsertQuery(columns, []string{"x", "y"}, 1, 2)
		if err != nil || q != want {
			t.Errorf("query of %q =\n%s\nerror %v; want\n%s", sql, q, err, want)
		}
	}
}
