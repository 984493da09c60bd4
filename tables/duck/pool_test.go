//go:build cgo

package duck

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sql/worker"
)

// TestFewDatabases checks that running a statement repeatedly opens only a few databases, even if the caller has other
// running statements.
func TestFewDatabases(t *testing.T) {
	for i := range 4 {
		separateProcesses, hasOthers := i%2 == 1, i >= 2
		t.Run(fmt.Sprintf("separate processes %v, others %v", separateProcesses, hasOthers), func(t *testing.T) {
			ctx := worker.WithCaller(t.Context(), "a", func() bool { return hasOthers })
			e := must.Get(New(&Options{Processes: separateProcesses}))(t)
			s := must.Get(tables.Open(t.Context(), t.TempDir(), &tables.Options{Engine: e}))(t)
			state := func() (openCount, idle int, hasUsed bool) {
				e.pool.mu.Lock()
				defer e.pool.mu.Unlock()
				return int(e.pool.opener.count.Load()), len(e.pool.idle), slices.ContainsFunc(e.pool.idle, func(one lease) bool { return one.key != "" })
			}
			const statements = 12
			for range statements {
				r := must.Get(s.Query(ctx, "SELECT 1", nil))(t)
				for r.Next() {
				}
				r.Release()
				for tries := 0; tries < 1000; tries++ {
					if _, _, isKept := state(); isKept {
						break
					}
					time.Sleep(time.Millisecond)
				}
			}
			if opened, idle, _ := state(); opened > 2*maxIdle || idle > maxIdle {
				t.Errorf("%d statements opened %d databases, of which %d are idle; want at most %d and %d", statements, opened, idle, 2*maxIdle, maxIdle)
			}
			must.Do(t, s.Close())
			must.Do(t, e.Close())
		})
	}
}

// TestLeases tests choose and add.
func TestLeases(t *testing.T) {
	var idle leases
	for _, key := range []string{"", "a", "", "b", ""} {
		idle = append(idle, lease{key: key})
	}
	for _, c := range []struct {
		key   string
		class class
		want  int
	}{
		{"a", alone, 1},
		{"b", alone, 3},
		{"c", alone, 0},
		{"", alone, 0},
		{anyKey, alone, 3},
		{anyKey, crowded, 0},
		{"a", crowded, 0},
		{anyKey, sharing, 3},
		{"a", sharing, 1},
		{"c", sharing, 0},
	} {
		if got := idle.choose(c.key, c.class); got != c.want {
			t.Errorf("choose(%q, %v) = %d, want %d", c.key, c.class, got, c.want)
		}
	}
	if got := idle[:maxIdle/2].choose("c", sharing); got != -1 {
		t.Errorf("choose for a caller with other statements = %d, want -1 because all unused databases are reserved", got)
	}
	if got := (leases{{key: "a"}, {key: "b"}, {}, {}}).choose("c", sharing); got != -1 {
		t.Errorf("choose with two unused databases for a caller with other statements = %d, want -1", got)
	}
	idle = idle[:0]
	for range maxIdle {
		idle = append(idle, lease{})
	}
	for _, key := range []string{"a", "b", "c", "d"} {
		idle.add(lease{key: key}, 0)
		used := 0
		for _, d := range idle {
			if d.key != "" {
				used++
			}
		}
		if len(idle) > maxIdle || used > maxIdle/2 || idle[len(idle)-1].key != key {
			t.Errorf("after add(%q), %d of %d idle databases are used, want at most %d of %d, with the added one last", key, used, len(idle), maxIdle/2, maxIdle)
		}
	}
	for _, c := range []struct {
		keys    []string
		pending int
	}{{[]string{"", "", ""}, 1}, {[]string{"a"}, 3}, {[]string{"a", ""}, 2}, {nil, 4}} {
		idle = idle[:0]
		for _, key := range c.keys {
			idle = append(idle, lease{key: key})
		}
		if idle.add(lease{key: "b"}, c.pending); len(idle)+c.pending != maxIdle {
			t.Errorf("after add to %q: %d databases are idle and %d pending, want %d in all", c.keys, len(idle), c.pending, maxIdle)
		}
	}
}

// TestPermits checks that statements wait for others of their caller that have just begun, but not for long ones.
func TestPermits(t *testing.T) {
	e := must.Get(New(nil))(t)
	defer e.Close()
	ctx := worker.WithCaller(t.Context(), "a", func() bool { return true })
	for range cap(e.pool.permits.held) {
		if !e.pool.permits.await(ctx) {
			t.Fatal("a statement has no permit, although permits are free")
		}
	}
	time.AfterFunc(maxWait/10, func() { <-e.pool.permits.held })
	e.pool.permits.last = time.Now().Add(time.Hour) // wait for any time
	if !e.pool.permits.await(ctx) {
		t.Error("a statement did not wait for a permit")
	}
	const age = time.Hour
	e.pool.permits.last = time.Now().Add(-age)
	start := time.Now()
	if e.pool.permits.await(ctx) || time.Since(start) >= maxWait {
		t.Errorf("a statement waited %v for statements that began %v ago, want no wait", time.Since(start), age)
	}
}

// TestBorrow checks that queries get equal limits while enough memory is unused, and never more than Options.Total.
func TestBorrow(t *testing.T) {
	const total, memory, queries = 1 << 30, 300 << 20, 8
	e := must.Get(New(&Options{Total: total, Memory: memory, Queries: queries}))(t)
	defer e.Close()
	var sum int64
	for i := range queries {
		n := e.borrow(memory)
		if limit := e.share() + n; n != 0 && limit != memory && limit != memory/2 && limit != memory/4 {
			t.Errorf("limit of query %d = %d, want %d, or a half or a quarter of it", i, limit, memory)
		}
		if sum += n; sum > total/2 {
			t.Errorf("%d queries borrowed %d bytes, want at most %d", i+1, sum, total/2)
		}
	}
	if e.giveBackMemory(sum); e.borrowedBytes != 0 || e.borrow(1<<20) != 0 {
		t.Error("borrow is wrong after all bytes were given back, or for a limit below a query's share")
	}
}
