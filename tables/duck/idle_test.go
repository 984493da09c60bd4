//go:build cgo

package duck

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
)

// TestFewDatabases runs a statement again and again, for which few databases are opened.
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
			state := func() (opened, idle int, isKept bool) {
				e.mu.Lock()
				defer e.mu.Unlock()
				return e.opened, len(e.idle), slices.ContainsFunc(e.idle, func(one lent) bool { return one.key != "" })
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
				t.Errorf("%d statements opened %d databases, and %d wait", statements, opened, idle)
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

// TestIdle fills what waits, and takes from it.
func TestIdle(t *testing.T) {
	var all idle
	for _, key := range []string{"", "a", "", "b", ""} {
		all = append(all, lent{key: key})
	}
	for _, c := range []struct {
		key    string
		others bool
		want   int
	}{
		{"a", false, 1}, {"b", false, 3}, {"c", false, 0}, {"", false, 0}, {anyKey, false, 3}, {anyKey, true, 0}, {"a", true, 0},
	} {
		if got := all.choose(c.key, c.others); got != c.want {
			t.Errorf("a statement of key %q, %v, takes %d, not %d", c.key, c.others, got, c.want)
		}
	}
	if got := all[:maxIdle/2].choose(anyKey, true); got != -1 {
		t.Errorf("a caller who has others takes %d of those for who has none", got)
	}
	if got := (idle{{key: "a"}, {key: "b"}, {}, {}}).choose(anyKey, true); got != -1 {
		t.Errorf("a caller who has others takes %d, and leaves only those of few tables", got)
	}
	all = all[:0]
	for range maxIdle {
		all = append(all, lent{})
	}
	for _, key := range []string{"a", "b", "c", "d"} {
		all.keep(lent{key: key}, 0)
		kept := 0
		for _, one := range all {
			if one.key != "" {
				kept++
			}
		}
		if len(all) > maxIdle || kept > maxIdle/2 || all[len(all)-1].key != key {
			t.Errorf("of %v, %d were used", all, kept)
		}
	}
	for _, c := range []struct {
		keys   []string
		coming int
	}{{[]string{"", "", ""}, 1}, {[]string{"a"}, 3}, {[]string{"a", ""}, 2}, {nil, 4}} {
		all = all[:0]
		for _, key := range c.keys {
			all = append(all, lent{key: key})
		}
		if all.keep(lent{key: "b"}, c.coming); len(all)+c.coming != maxIdle {
			t.Errorf("%d wait and %d are to come after %q", len(all), c.coming, c.keys)
		}
	}
}
