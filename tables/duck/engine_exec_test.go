//go:build cgo

package duck_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables"
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
		if err := s.Bucket("b").Table("t").SetSettings(t.Context(), tables.Settings{Time: "ts", Keys: []string{"sym"}, OnDuplicate: rule}); err != nil {
			t.Fatal(err)
		}
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
