//go:build cgo && linux

package duck_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/internal/sql/worker"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestExecFullDisk runs each statement with more and more free space on the disk, until it succeeds. A statement that
// fails must change nothing and leave no file. The statement that succeeds must change nothing when it is sent again
// with its ID.
func TestExecFullDisk(t *testing.T) {
	const rowCount = 50_000
	all := "SELECT count(*), bit_xor(hash(k, s)) FROM t"
	in := &tables.QueryOptions{Bucket: "b"}
	for name, sql := range map[string]string{
		"insert": "INSERT INTO t SELECT k + 1000000, s FROM t",
		"update": "UPDATE t SET s = md5(s) WHERE k % 2 = 0",
		"delete": "DELETE FROM t WHERE k % 3 = 0",
		"merge":  "MERGE INTO t USING range(40000, 60000) AS r(i) ON k = i WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (i, md5(i::VARCHAR))",
		"create": "CREATE OR REPLACE TABLE t AS SELECT i AS k, md5(i::VARCHAR) AS s FROM range(50000) r(i)",
	} {
		t.Run(name, func(t *testing.T) {
			dir := vfstest.Mount(t, "tmpfs", 64<<20)
			engine := must.Get(duck.New(&duck.Options{TempDir: t.TempDir()}))(t)
			defer engine.Close() //nolint:errcheck // only cleanup
			s := must.Get(tables.Open(t.Context(), filepath.Join(dir, "house"), &tables.Options{Engine: engine, FoldAge: -1}))(t)
			defer s.Close() //nolint:errcheck // only cleanup
			change(t, s, fmt.Sprintf("CREATE TABLE t AS SELECT i AS k, md5(i::VARCHAR) AS s FROM range(%d) r(i)", rowCount), rowCount)
			failures := 0
			for space := int64(0); ; space += 128 << 10 {
				before := onlyValue(t, s, all, in)
				files := len(tabletest.Paths(t, s.Dir(), ".parquet"))
				free := fillExcept(t, dir, space)
				r, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b", ID: "once"})
				free()
				if err == nil {
					after := onlyValue(t, s, all, in)
					again, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b", ID: "once"})
					if err != nil || again.Rows != r.Rows || onlyValue(t, s, all, in) != after {
						t.Errorf("the same ID again = %d rows, error %v; want %d rows and no change", again.Rows, err, r.Rows)
					}
					break
				}
				failures++
				if !errors.Is(err, syscall.ENOSPC) && !isFullDatabase(err) {
					t.Errorf("with %d KiB free: error %v, want one that says that the disk is full", space>>10, err)
				}
				if got := onlyValue(t, s, all, in); got != before {
					t.Fatalf("with %d KiB free, a failed statement left %s, want %s", space>>10, got, before)
				}
				if n := len(tabletest.Paths(t, s.Dir(), ".parquet")); n > files && !errors.Is(err, partd.ErrUnknownOutcome) { // the commit may have succeeded
					t.Errorf("with %d KiB free, a failed statement left %d files more: %v", space>>10, n-files, err)
				}
			}
			if failures == 0 {
				t.Error("the statement never failed, so nothing was tested")
			}
			t.Logf("%d failures", failures)
		})
	}
}

// isFullDatabase reports whether err is SQLITE_FULL, SQLite's error for a full disk.
func isFullDatabase(err error) bool {
	var code interface{ Code() int }
	return errors.As(err, &code) && code.Code()&0xff == 13
}

// fillExcept fills the disk of dir except for space bytes. The function free removes the filling.
func fillExcept(t *testing.T, dir string, space int64) (free func()) {
	t.Helper()
	reserve := filepath.Join(dir, "reserve")
	must.Do(t, os.WriteFile(reserve, make([]byte, space), 0o600))
	free = vfstest.Fill(t, dir)
	must.Do(t, os.Remove(reserve))
	return free
}

// TestExecMemory changes the rows of a table that is larger than the memory limit of the query, and checks the peak
// memory of this process. The query runs in another process, so this process uses memory only for the change itself.
func TestExecMemory(t *testing.T) {
	const rowCount, rowBytes, limit = 2_000_000, 128, 220 << 20
	s := newStore(t, &duck.Options{Processes: true, Memory: 128 << 20, MaxTemp: 2 << 30})
	change(t, s, fmt.Sprintf("CREATE TABLE t AS SELECT i AS k, 0 AS n, md5(i::VARCHAR) || md5((i + 1)::VARCHAR) || md5((i + 2)::VARCHAR) || md5((i + 3)::VARCHAR) AS s FROM range(%d) r(i)", rowCount), rowCount)
	for _, sql := range []string{
		"UPDATE t SET s = reverse(s)", "MERGE INTO t USING t AS u ON t.k = u.k WHEN MATCHED THEN UPDATE SET s = u.s || 'x'", "DELETE FROM t WHERE k % 2 = 0",
	} {
		debug.FreeOSMemory()
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // resets the peak
			t.Skip(err)
		}
		_, before, _ := procs.Memory(os.Getpid())
		if _, err := s.Exec(t.Context(), sql, &tables.ExecOptions{Bucket: "b"}); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		_, peak, err := procs.Memory(os.Getpid())
		must.Do(t, err)
		used := peak - before
		t.Logf("%s: %d MiB", sql, used>>20)
		if used > limit && !procs.RaceEnabled {
			t.Errorf("%s used %d MiB for %d MiB of rows, want at most %d MiB", sql, used>>20, rowCount*rowBytes>>20, limit>>20)
		}
	}
	expect(t, s, "SELECT count(*), sum(n), min(length(s)) FROM b.t", nil, "1000000|0|129")
}

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
		if n, err := tabletest.CountRows(r); err != nil || n != keys {
			t.Errorf("got %d rows, want %d; error: %v", n, keys, err)
		}
	})
}

// niceness returns the nice value of a process.
func niceness(pid int) (n int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // fails if the process has ended
	_, rest, _ := strings.Cut(string(b), ") ")
	if f := strings.Fields(rest); len(f) > 16 {
		_, _ = fmt.Sscan(f[16], &n)
	}
	return n
}

func hasNiceWorker() bool {
	for _, pid := range workerPIDs() {
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
	if hasNiceWorker() {
		t.Error("the process of a small statement has low priority, want normal priority")
	}
	r := must.Get(s.Query(t.Context(), "SELECT * FROM range(1000000000000)", nil))(t)
	eventually(t, "a long statement keeps its priority", func() bool { r.Next(); return hasNiceWorker() })
	r.Release()
	expect(t, s, "SELECT count(*) FROM range(3000000000)", nil, "3000000000") // a long statement that completes
	eventually(t, "a process with low priority is still idle", func() bool { return !hasNiceWorker() })
	expect(t, s, "SELECT 1", nil, "1")
}

// TestCallerWithOthers checks that if the caller has other running statements, and as many of them share databases as
// may do so, a statement has low priority from the start, and does not use a database that is reserved for other
// callers.
func TestCallerWithOthers(t *testing.T) {
	s := newStore(t, &duck.Options{Processes: true})
	before := len(workerPIDs())
	expect(t, s, "SELECT 1", nil, "1")
	eventually(t, "no process is idle", func() bool { return len(workerPIDs()) > before })
	time.Sleep(500 * time.Millisecond) // wait until the idle process has opened its database
	ctxWithOthers := worker.WithCaller(t.Context(), "one", func() bool { return true })
	var readers []array.RecordReader
	query := func() {
		t.Helper()
		readers = append(readers, must.Get(s.Query(ctxWithOthers, "SELECT * FROM range(100000000)", nil))(t))
	}
	for range max(2, runtime.GOMAXPROCS(0)/2) {
		query()
	}
	if hasNiceWorker() {
		t.Error("a statement that shares databases has low priority, want normal priority")
	}
	before = len(workerPIDs())
	query()
	if !hasNiceWorker() || len(workerPIDs()) <= before {
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
	eventually(t, "a process with low priority is still idle", func() bool { return !hasNiceWorker() })
}
