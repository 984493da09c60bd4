//go:build cgo

package duck_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

// TestSharedDatabases runs statements that may share a database, mixed with others that may not.
// Each statement reads its own tables, in its own state and with its own memory limit.
func TestSharedDatabases(t *testing.T) {
	for _, processes := range []bool{false, true} {
		t.Run(fmt.Sprintf("processes %v", processes), func(t *testing.T) {
			s := newStore(t, &duck.Options{Processes: processes, Threads: 1})
			put(t, s, "b", "t", numbers(0, 10))
			put(t, s, "c", "t", numbers(0, 20))
			if _, err := s.Fold(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			pause := func() { // until the database is idle again
				if processes {
					time.Sleep(20 * time.Millisecond)
				}
			}
			expectIn := func(bucket, sql string, want ...string) {
				t.Helper()
				expect(t, s, sql, &tables.QueryOptions{Bucket: bucket}, want...)
				pause()
			}
			const list = "SELECT len(list(range)) FROM range(8000000)"
			for range 20 { // more rounds than there are databases
				expectIn("b", "SELECT count(*) FROM t", "10")
				expectIn("c", "SELECT count(*) FROM t", "20")
				expectIn("b", "SELECT count(*) FROM t, c.t AS u", "200")
				expectIn("b", "SELECT max(k) FROM t", "9")
			}
			for i := range 3 {
				expect(t, s, list, nil, "8000000")
				pause()
				_, err := rows(t, s, list, &tables.QueryOptions{Memory: 32 << 20})
				if err == nil || !strings.Contains(strings.ToLower(err.Error()), "memory") {
					t.Errorf("a list of 64 MB within 32 MiB: %v", err)
				}
				pause()
				put(t, s, "b", "t", numbers(0, 10))
				expectIn("b", "SELECT count(*) FROM t", fmt.Sprint(10*(i+2)))
				if _, err := rows(t, s, "SELECT count(*) FROM t", nil); err == nil {
					t.Error("a statement read a table from another statement's bucket")
				}
				pause()
			}
		})
	}
}

// TestMemoryOfEarlierStatement resolves the tables of a long statement after a statement with
// very little memory.
func TestMemoryOfEarlierStatement(t *testing.T) {
	long := "SELECT 1 IN (" + strings.Repeat("1,", 40_000) + "1)"
	for _, processes := range []bool{false, true} {
		for _, memory := range []int64{1, 16 << 20} {
			t.Run(fmt.Sprintf("processes %v, memory %d", processes, memory), func(t *testing.T) {
				s := newStore(t, &duck.Options{Processes: processes, Threads: 1})
				for range 3 {
					expect(t, s, "SELECT 1", &tables.QueryOptions{Memory: memory}, "1")
					time.Sleep(20 * time.Millisecond) // until its database is idle
				}
				if got, err := rows(t, s, long, nil); err != nil || fmt.Sprint(got) != "[true]" {
					t.Errorf("a long statement: %v, %v", got, err)
				}
			})
		}
	}
}
