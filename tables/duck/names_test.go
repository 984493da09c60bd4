//go:build cgo

package duck_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables"
)

// TestOddNames has buckets and tables called as DuckDB calls its own, and others
// that have to be quoted.
func TestOddNames(t *testing.T) {
	s := newStore(t, nil)
	const reserved = 5
	names := []string{"temp", "system", "memory", "pg_catalog", "information_schema", "main", "default", "a.b", `a"b`, "a'b", "größe", "select", "/etc/passwd.csv", "pg_views", "duckdb_settings", "sqlite_master"}
	for i, name := range names {
		put(t, s, name, "t", numbers(0, int64(i+1)))
		put(t, s, "b", name, numbers(0, int64(i+1)))
	}
	for i, name := range names {
		quoted := `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
		if i < reserved {
			if _, err := rows(t, s, "SELECT count(*) FROM "+quoted+".t", nil); err == nil || !strings.Contains(err.Error(), "line 1, column 22: "+quoted+" has a meaning of its own") {
				t.Error(name, err)
			}
		} else {
			expect(t, s, "SELECT count(*) FROM "+quoted+".t", nil, fmt.Sprint(i+1))
		}
		expect(t, s, "SELECT count(*) FROM b."+quoted, nil, fmt.Sprint(i+1))
		expect(t, s, "SELECT count(*) FROM "+quoted, &tables.QueryOptions{Bucket: "b"}, fmt.Sprint(i+1))
		expect(t, s, "SELECT count(*) FROM t", &tables.QueryOptions{Bucket: name}, fmt.Sprint(i+1))
	}
}
