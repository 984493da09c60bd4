//go:build cgo

package duck_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables"
)

// TestExecErrorsWithoutPosition checks that errors of DuckDB are SQLErrors, and that they have no position: DuckDB ran a query
// that the user did not write.
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
