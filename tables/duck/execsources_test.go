//go:build cgo

package duck_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables"
)

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
