//go:build cgo && linux

package duck_test

import (
	"fmt"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/duck"
)

// TestSpills checks grouping by so many keys that their hash table exceeds the memory limit: numbers in this process,
// and texts in a separate process.
func TestSpills(t *testing.T) {
	const keys = 8_700_000
	t.Run("numbers in this process", func(t *testing.T) {
		s := newStore(t, &duck.Options{Memory: 128 << 20, Threads: 2})
		expect(t, s, fmt.Sprintf("SELECT count(*), sum(n) FROM (SELECT range AS id, count(*) AS n FROM range(%d) GROUP BY id)", keys), nil,
			fmt.Sprintf("%d|%d", keys, keys))
	})
	t.Run("texts in a separate process", func(t *testing.T) {
		s := newStore(t, &duck.Options{Processes: true, Memory: 128 << 20, Threads: 2})
		r := must.Get(s.Query(t.Context(), fmt.Sprintf("SELECT 'key ' || range AS name, sum(range) FROM range(%d) GROUP BY name", keys), nil))(t)
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
