//go:build cgo

package duck

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
)

// TestFewDatabases runs a statement repeatedly, which must open few databases.
func TestFewDatabases(t *testing.T) {
	for _, processes := range []bool{false, true} {
		t.Run(fmt.Sprintf("processes %v", processes), func(t *testing.T) {
			e, err := New(&Options{Processes: processes})
			if err != nil {
				t.Fatal(err)
			}
			s, err := tables.Open(t.Context(), t.TempDir(), &tables.Options{Engine: e})
			if err != nil {
				t.Fatal(err)
			}
			state := func() (openCount, idle int, hasUsed bool) {
				e.mu.Lock()
				defer e.mu.Unlock()
				return e.openCount, len(e.idle), slices.ContainsFunc(e.idle, func(one lease) bool { return one.key != "" })
			}
			const statements = 12
			for range statements {
				r, err := s.Query(t.Context(), "SELECT 1", nil)
				if err != nil {
					t.Fatal(err)
				}
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
				t.Errorf("%d statements opened %d databases, and %d are idle", statements, opened, idle)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestIdle adds databases to idleDatabases and removes them.
func TestIdle(t *testing.T) {
	var idle idleDatabases
	for _, key := range []string{"", "a", "", "b", ""} {
		idle = append(idle, lease{key: key})
	}
	for _, c := range []struct {
		key       string
		hasOthers bool
		want      int
	}{
		{"a", false, 1}, {"b", false, 3}, {"c", false, 0}, {"", false, 0}, {anyKey, false, 3}, {anyKey, true, 0}, {"a", true, 0},
	} {
		if got := idle.choose(c.key, c.hasOthers); got != c.want {
			t.Errorf("a statement with key %q, hasOthers %v, gets database %d, want %d", c.key, c.hasOthers, got, c.want)
		}
	}
	if got := idle[:maxIdle/2].choose(anyKey, true); got != -1 {
		t.Errorf("a caller with other statements gets database %d, reserved for callers without", got)
	}
	if got := (idleDatabases{{key: "a"}, {key: "b"}, {}, {}}).choose(anyKey, true); got != -1 {
		t.Errorf("a caller with other statements gets the reserved database %d", got)
	}
	idle = idle[:0]
	for range maxIdle {
		idle = append(idle, lease{})
	}
	for _, key := range []string{"a", "b", "c", "d"} {
		idle.keep(lease{key: key}, 0)
		used := 0
		for _, d := range idle {
			if d.key != "" {
				used++
			}
		}
		if len(idle) > maxIdle || used > maxIdle/2 || idle[len(idle)-1].key != key {
			t.Errorf("%d used databases in %v", used, idle)
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
		if idle.keep(lease{key: "b"}, c.pending); len(idle)+c.pending != maxIdle {
			t.Errorf("%d databases are idle and %d pending after %q", len(idle), c.pending, c.keys)
		}
	}
}
