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

// TestOneDatabase runs statements that may share a database with others that may not: each sees
// the tables, in the state, and has the memory, that it asks for.
func TestOneDatabase(t *testing.T) {
	for _, processes := range []bool{false, true} {
		t.Run(fmt.Sprintf("processes %v", processes), func(t *testing.T) {
			s := newStore(t, &duck.Options{Processes: processes, Threads: 1})
			put(t, s, "b", "t", numbers(0, 10))
			put(t, s, "c", "t", numbers(0, 20))
			if _, err := s.Fold(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			pause := func() { // until what was used waits again
				if processes {
					time.Sleep(20 * time.Millisecond)
				}
			}
			in := func(bucket, sql string, want ...string) {
				t.Helper()
				expect(t, s, sql, &tables.QueryOptions{Bucket: bucket}, want...)
				pause()
			}
			const list = "SELECT len(list(range)) FROM range(8000000)"
			for range 20 { // more than one database has
				in("b", "SELECT count(*) FROM t", "10")
				in("c", "SELECT count(*) FROM t", "20")
				in("b", "SELECT count(*) FROM t, c.t AS u", "200")
				in("b", "SELECT max(k) FROM t", "9")
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
				in("b", "SELECT count(*) FROM t", fmt.Sprint(10*(i+2)))
				if _, err := rows(t, s, "SELECT count(*) FROM t", nil); err == nil {
					t.Error("a table of the bucket of another statement")
				}
				pause()
			}
		})
	}
}

// TestMemoryOfAnother finds the tables of a long statement after one that may have next to no memory.
func TestMemoryOfAnother(t *testing.T) {
	long := "SELECT 1 IN (" + strings.Repeat("1,", 40_000) + "1)"
	for _, processes := range []bool{false, true} {
		for _, memory := range []int64{1, 16 << 20} {
			t.Run(fmt.Sprintf("processes %v, memory %d", processes, memory), func(t *testing.T) {
				s := newStore(t, &duck.Options{Processes: processes, Threads: 1})
				for range 3 {
					expect(t, s, "SELECT 1", &tables.QueryOptions{Memory: memory}, "1")
					time.Sleep(20 * time.Millisecond) // until its database waits
				}
				if got, err := rows(t, s, long, nil); err != nil || fmt.Sprint(got) != "[true]" {
					t.Errorf("a long statement: %v, %v", got, err)
				}
			})
		}
	}
}
