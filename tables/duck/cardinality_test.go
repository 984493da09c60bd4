//go:build cgo

package duck_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestCardinality checks that DuckDB plans with a table's row count, including rows not yet in data files.
func TestCardinality(t *testing.T) {
	s := newStore(t, nil)
	expectRows := func(n int) {
		t.Helper()
		got, err := rows(t, s, "EXPLAIN SELECT k FROM b.t", nil)
		if want := fmt.Sprintf("~%d rows", n); err != nil || !strings.Contains(strings.ReplaceAll(fmt.Sprint(got), ",", ""), want) {
			t.Errorf("got plan %v, error %v; want it to contain %s", got, err, want)
		}
	}
	put(t, s, "b", "t", numbers(0, 70_000))
	expectRows(70_000)
	put(t, s, "b", "t", numbers(0, 15))
	expectRows(70_015)
	if _, err := s.Fold(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	expectRows(70_015)
}
