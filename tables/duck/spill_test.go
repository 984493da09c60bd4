//go:build cgo && linux

package duck_test

import (
	"fmt"
	"testing"

	"github.com/go-partd/partd/tables/duck"
)

// TestSpills checks grouping by so many keys that their hash table exceeds the memory limit.
func TestSpills(t *testing.T) {
	const keys = 8_700_000
	for _, separateProcesses := range []bool{false, true} {
		t.Run(fmt.Sprintf("separate processes %v", separateProcesses), func(t *testing.T) {
			s := newStore(t, &duck.Options{Processes: separateProcesses, Memory: 128 << 20, Threads: 2})
			expect(t, s, fmt.Sprintf("SELECT count(*), sum(n) FROM (SELECT range AS id, count(*) AS n FROM range(%d) GROUP BY id)", keys), nil,
				fmt.Sprintf("%d|%d", keys, keys))
			r, err := s.Query(t.Context(), fmt.Sprintf("SELECT 'key ' || range AS name, sum(range) FROM range(%d) GROUP BY name", keys), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Release()
			n := int64(0)
			for r.Next() {
				n += r.RecordBatch().NumRows()
			}
			if r.Err() != nil || n != keys {
				t.Errorf("got %d rows, want %d; error: %v", n, keys, r.Err())
			}
		})
	}
}
