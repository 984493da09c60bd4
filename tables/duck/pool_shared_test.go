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

// TestSharedDatabases alternates statements that can share a database with statements that cannot.
// Each statement must read its own tables, in their current state, with its own memory limit.
func TestSharedDatabases(t *testing.T) {
	for _, separateProcesses := range []bool{false, true} {
		t.Run(fmt.Sprintf("separate processes %v", separateProcesses), func(t *testing.T) {
			s := newStore(t, &duck.Options{Processes: separateProcesses, Threads: 1})
			put(t, s, "b", "t", numbers(0, 10))
			put(t, s, "c", "t", numbers(0, 20))
			fold(t, s)
			pause := func() { // wait until the database is idle again
				if separateProcesses {
					time.Sleep(20 * time.Millisecond)
				}
			}
			expectIn := func(bucket, sql string, want ...string) {
				t.Helper()
				expect(t, s, sql, &tables.QueryOptions{Bucket: bucket}, want...)
				pause()
			}
			const listSQL = "SELECT len(list(range)) FROM range(8000000)"
			for range 20 { // more rounds than there are databases
				expectIn("b", "SELECT count(*) FROM t", "10")
				expectIn("c", "SELECT count(*) FROM t", "20")
				expectIn("b", "SELECT count(*) FROM t, c.t AS u", "200")
				expectIn("b", "SELECT max(k) FROM t", "9")
			}
			for i := range 3 {
				expect(t, s, listSQL, nil, "8000000")
				pause()
				_, err := rows(t, s, listSQL, &tables.QueryOptions{Memory: 32 << 20})
				if err == nil || !strings.Contains(strings.ToLower(err.Error()), "memory") {
					t.Errorf("a list of 64 MB with a limit of 32 MiB: error = %v, want out of memory", err)
				}
				pause()
				put(t, s, "b", "t", numbers(0, 10))
				expectIn("b", "SELECT count(*) FROM t", fmt.Sprint(10*(i+2)))
				if _, err := rows(t, s, "SELECT count(*) FROM t", nil); err == nil {
					t.Error("a statement read a table from another statement's bucket, want an error")
				}
				pause()
			}
		})
	}
}

// TestMemoryOfEarlierStatement runs a long statement after statements with a very low memory limit. The low limit must
// not affect the long statement.
func TestMemoryOfEarlierStatement(t *testing.T) {
	long := "SELECT 1 IN (" + strings.Repeat("1,", 40_000) + "1)"
	for _, separateProcesses := range []bool{false, true} {
		for _, memory := range []int64{1, 16 << 20} {
			t.Run(fmt.Sprintf("separate processes %v, memory %d", separateProcesses, memory), func(t *testing.T) {
				s := newStore(t, &duck.Options{Processes: separateProcesses, Threads: 1})
				for range 3 {
					expect(t, s, "SELECT 1", &tables.QueryOptions{Memory: memory}, "1")
					time.Sleep(20 * time.Millisecond) // wait until the statement's database is idle
				}
				if got, err := rows(t, s, long, nil); err != nil || fmt.Sprint(got) != "[true]" {
					t.Errorf("the long statement returned %v, error %v; want [true]", got, err)
				}
			})
		}
	}
}
