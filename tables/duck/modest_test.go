//go:build cgo && linux

package duck_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/worker"
)

// niceness is how far a process is behind others.
func niceness(pid int) (n int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // it may have ended
	_, rest, _ := strings.Cut(string(b), ") ")
	if f := strings.Fields(rest); len(f) > 16 {
		_, _ = fmt.Sscan(f[16], &n)
	}
	return n
}

func anyBehind(t *testing.T) bool {
	for _, pid := range workers(t) {
		if niceness(pid) > niceness(os.Getpid()) {
			return true
		}
	}
	return false
}

// A statement that computes for long goes behind others, and its process has no other
// one.
func TestModest(t *testing.T) {
	s := newStore(t, &duck.Options{Processes: true})
	expect(t, s, "SELECT 1", nil, "1")
	if anyBehind(t) {
		t.Error("a small statement is behind others")
	}
	r, err := s.Query(t.Context(), "SELECT * FROM range(1000000000000)", nil)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is not behind others", func() bool { r.Next(); return anyBehind(t) })
	r.Release()
	expect(t, s, "SELECT count(*) FROM range(3000000000)", nil, "3000000000") // which ends well
	eventually(t, "a process that is behind others waits for another statement", func() bool { return !anyBehind(t) })
	expect(t, s, "SELECT 1", nil, "1")
}

// A statement of a caller who has others takes no database that waits for those who have
// none, and is behind them from its beginning.
func TestOthers(t *testing.T) {
	s := newStore(t, &duck.Options{Processes: true})
	begun := len(workers(t))
	expect(t, s, "SELECT 1", nil, "1")
	eventually(t, "no process waits", func() bool { return len(workers(t)) > begun })
	time.Sleep(500 * time.Millisecond) // until it has a database
	has := worker.WithCaller(t.Context(), "one", func() bool { return true })
	r, err := s.Query(has, "SELECT * FROM range(100000000)", nil)
	if err != nil {
		t.Fatal(err)
	}
	if !anyBehind(t) || len(workers(t)) < begun+2 {
		t.Error("it has a process that waited for others, or is not behind them")
	}
	expect(t, s, "SELECT 1", nil, "1")
	ctx, cancel := context.WithCancel(has)
	r.Release()
	cancel()
	if _, err := s.Query(ctx, "SELECT 1", nil); err == nil {
		t.Error("a statement of a context that has ended")
	}
	eventually(t, "a process that is behind others waits for another statement", func() bool { return !anyBehind(t) })
}
