//go:build cgo

package duck_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
)

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
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error = %v, want %s", sql, err, want)
		}
		var sqlErr *tables.SQLError
		if strings.HasPrefix(want, "line") && (!errors.As(err, &sqlErr) || sqlErr.Line == 0) {
			t.Errorf("%s: error %v is not an SQLError with a position", sql, err)
		}
	}
	if _, err := rows(t, s, "FROM tradse", o); !errors.Is(err, tables.ErrNotFound) {
		t.Errorf("query of a misspelled table: error = %v, want tables.ErrNotFound", err)
	}
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
			for r.Next() {
			}
			err = r.Err()
			r.Release()
		}
		elapsed := time.Since(cancelled)
		if !errors.Is(err, context.Canceled) || elapsed > 500*time.Millisecond {
			t.Errorf("%s: error = %v %v after the cancellation, want context.Canceled within 500ms", name, err, elapsed)
		}
		t.Logf("%s: %v", name, elapsed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Query(ctx, "SELECT 1", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Query with a canceled context: error = %v, want context.Canceled", err)
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
