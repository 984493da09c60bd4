//go:build cgo && linux

package duck_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables/duck"
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
