//go:build cgo && linux

package duck_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/sql/worker"
)

// niceness returns the nice value of a process.
func niceness(pid int) (n int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // fails if the process has ended
	_, rest, _ := strings.Cut(string(b), ") ")
	if f := strings.Fields(rest); len(f) > 16 {
		_, _ = fmt.Sscan(f[16], &n)
	}
	return n
}

func hasNiceWorker(t *testing.T) bool {
	for _, pid := range workerPIDs(t) {
		if niceness(pid) > niceness(os.Getpid()) {
			return true
		}
	}
	return false
}

// TestLongStatementsYield checks that the process of a long statement lowers its own priority, and is not used for
// further statements.
func TestLongStatementsYield(t *testing.T) {
	s := newStore(t, &duck.Options{Processes: true})
	expect(t, s, "SELECT 1", nil, "1")
	if hasNiceWorker(t) {
		t.Error("the process of a small statement has low priority, want normal priority")
	}
	r := must.Get(s.Query(t.Context(), "SELECT * FROM range(1000000000000)", nil))(t)
	eventually(t, "a long statement keeps its priority", func() bool { r.Next(); return hasNiceWorker(t) })
	r.Release()
	expect(t, s, "SELECT count(*) FROM range(3000000000)", nil, "3000000000") // a long statement that completes
	eventually(t, "a process with low priority is still idle", func() bool { return !hasNiceWorker(t) })
	expect(t, s, "SELECT 1", nil, "1")
}

// TestCallerWithOthers checks that if the caller has other running statements, and as many of them share databases as
// may do so, a statement has low priority from the start, and does not use a database that is reserved for other
// callers.
func TestCallerWithOthers(t *testing.T) {
	s := newStore(t, &duck.Options{Processes: true})
	before := len(workerPIDs(t))
	expect(t, s, "SELECT 1", nil, "1")
	eventually(t, "no process is idle", func() bool { return len(workerPIDs(t)) > before })
	time.Sleep(500 * time.Millisecond) // wait until the idle process has opened its database
	ctxWithOthers := worker.WithCaller(t.Context(), "one", func() bool { return true })
	var readers []array.RecordReader
	query := func() {
		t.Helper()
		r := must.Get(s.Query(ctxWithOthers, "SELECT * FROM range(100000000)", nil))(t)
		readers = append(readers, r)
	}
	for range max(2, runtime.GOMAXPROCS(0)/2) {
		query()
	}
	if hasNiceWorker(t) {
		t.Error("a statement that shares databases has low priority, want normal priority")
	}
	before = len(workerPIDs(t))
	query()
	if !hasNiceWorker(t) || len(workerPIDs(t)) <= before {
		t.Error("the statement uses a reserved process, or runs with normal priority; want low priority in a process of its own")
	}
	expect(t, s, "SELECT 1", nil, "1")
	ctx, cancel := context.WithCancel(ctxWithOthers)
	for _, r := range readers {
		r.Release()
	}
	cancel()
	if _, err := s.Query(ctx, "SELECT 1", nil); err == nil {
		t.Error("Query with a canceled context succeeded, want an error")
	}
	eventually(t, "a process with low priority is still idle", func() bool { return !hasNiceWorker(t) })
}
