//go:build cgo && linux

package duck_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

// workerPIDs returns the IDs of child processes, until the engine has waited for their end.
func workerPIDs() []int { return procs.ChildrenAndZombies(os.Getpid()) }

func eventually(t *testing.T, message string, condition func() bool) {
	t.Helper()
	must.Eventually(t, 10*time.Second, message, condition)
}

// greedyStatements contains statements that use gigabytes of memory regardless of DuckDB's limit.
var greedyStatements = map[string]string{
	"median":      "SELECT median(range) FROM range(300000000)",
	"list":        "SELECT range % 1000000 AS g, list(range) FROM range(1000000000) GROUP BY g",
	"json_object": "SELECT json_object(" + strings.TrimSuffix(strings.Repeat("'k',repeat('x',65536),", 4000), ",") + ")",
	"wide rows":   "SELECT " + strings.TrimSuffix(strings.Repeat("repeat('x', 65536 - (range % 2)::INT),", 4000), ",") + " FROM range(2048)",
}

// TestGreedy runs statements that exceed their memory limit. Each must fail, and its process must never
// use more than its share.
func TestGreedy(t *testing.T) {
	const memory, fixed = 128 << 20, 200 << 20 // see docs/sql.md
	s := newStore(t, &duck.Options{Processes: true, Memory: memory, MaxTemp: 1 << 30, Threads: 2})
	for name, sql := range greedyStatements {
		t.Run(name, func(t *testing.T) {
			var pids []int
			calls := 0
			stop := procs.TrackPeak(5*time.Millisecond, func() (largest int64) {
				if calls++; calls == 1 {
					return 0 // so that the growth is the largest memory
				}
				if calls%20 == 2 { // finding the processes takes long
					pids = workerPIDs()
				}
				for _, pid := range pids {
					_, peak, _ := procs.Memory(pid) // fails if the process has ended
					largest = max(largest, peak)
				}
				return largest
			})
			_, err := rows(t, s, sql, nil)
			maxSeen := stop()
			t.Logf("%d MiB, %.200v", maxSeen>>20, err)
			if !errors.As(err, new(*tables.SQLError)) {
				t.Errorf("Query error = %v, want an SQLError", err)
			}
			if maxSeen > memory+fixed && !procs.RaceEnabled {
				t.Errorf("the process used %d MiB, want at most %d MiB", maxSeen>>20, (memory+fixed)>>20)
			}
		})
	}
	expect(t, s, "SELECT 1", nil, "1")
}

const endlessSQL = "SELECT max(levenshtein(x, y)) FROM (SELECT repeat('a', 65000) || range AS x, repeat('b', 65000) || range AS y FROM range(100000))"

// TestUninterruptible checks that canceling a statement that DuckDB cannot interrupt ends it soon, without leftovers.
func TestUninterruptible(t *testing.T) {
	temp := t.TempDir()
	s := newStore(t, &duck.Options{Processes: true, Queries: 1, TempDir: temp})
	before := len(workerPIDs())
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := time.Now()
	_, err := s.Query(ctx, endlessSQL, nil)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 3*time.Second {
		t.Errorf("Query error = %v after %v, want context.DeadlineExceeded within 3s", err, time.Since(began))
	}
	expect(t, s, "SELECT 1", nil, "1") // the only slot is free again
	const spares = 4
	eventually(t, "processes of the canceled statement remain", func() bool { return len(workerPIDs()) <= before+spares })
	eventually(t, "temporary files of the canceled statement remain", func() bool {
		files, err := filepath.Glob(filepath.Join(temp, "*", "spill-*"))
		return err == nil && len(files) == 0
	})
}

// TestProcessIsolation checks that a worker process has no environment variables with secrets, and no unexpected open
// files.
func TestProcessIsolation(t *testing.T) {
	t.Setenv("PARTD_TEST_SECRET", "hunter2")
	s := newStore(t, &duck.Options{Processes: true})
	file := must.Get(os.Open(os.Args[0]))(t)
	defer file.Close()
	r := must.Get(s.Query(t.Context(), "SELECT * FROM range(100000000)", nil))(t)
	defer r.Release()
	pids := workerPIDs()
	if len(pids) == 0 {
		t.Fatal("no process was started")
	}
	for _, pid := range pids {
		environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || strings.Contains(string(environment), "SECRET") {
			t.Errorf("process environment is %q, want no SECRET; error: %v", environment, err)
		}
		openFiles := must.Get(filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)))(t)
		sockets := 0
		for _, fd := range openFiles {
			target, err := os.Readlink(fd)
			if err != nil {
				continue
			}
			switch {
			case strings.HasPrefix(target, "socket:"):
				sockets++
			case target == os.DevNull, strings.HasPrefix(target, "anon_inode:"), strings.HasPrefix(target, "pipe:"), strings.HasPrefix(target, "/sys/fs/cgroup/"): // standard streams, and files of the Go runtime
			default:
				t.Errorf("a process has the unexpected open file %s", target)
			}
		}
		if sockets > 1 {
			t.Errorf("a process has %d sockets, want at most 1", sockets)
		}
	}
}

// TestKilledProcesses checks that killing a process makes its running statement fail, but no later statement.
func TestKilledProcesses(t *testing.T) {
	s := newStore(t, &duck.Options{Processes: true})
	r := must.Get(s.Query(t.Context(), "SELECT * FROM range(1000000000)", nil))(t)
	r.Next()
	kill := func() {
		for _, pid := range workerPIDs() {
			p, err := os.FindProcess(pid)
			if err == nil {
				err = p.Kill()
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
	kill()
	for r.Next() {
	}
	if err := r.Err(); !errors.As(err, new(*tables.SQLError)) || !strings.Contains(err.Error(), "killed") {
		t.Errorf(`after the process was killed: error = %v, want an SQLError with the text "killed"`, err)
	}
	r.Release()
	eventually(t, "there is no idle process", func() bool { return len(workerPIDs()) > 0 })
	kill()
	eventually(t, "a killed process is still running", func() bool { return len(workerPIDs()) == 0 })
	time.Sleep(100 * time.Millisecond) // wait until the engine notices
	expect(t, s, "SELECT 1", nil, "1")
}

// TestKilledIdleProcesses kills idle processes just before a statement, which then runs in another process.
func TestKilledIdleProcesses(t *testing.T) {
	s := newStore(t, &duck.Options{Processes: true, Threads: 1})
	for range 10 {
		expect(t, s, "SELECT 1", nil, "1")
		time.Sleep(60 * time.Millisecond) // wait until some processes are idle
		for _, pid := range workerPIDs() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // fails if the process has ended
		}
		expect(t, s, "SELECT 1", nil, "1")
	}
}

// TestProcessStartTime checks that a worker process starts its work before it initializes packages that
// only package tables needs, because their initialization takes most of a program's start time.
func TestProcessStartTime(t *testing.T) {
	cmd := exec.Command(os.Args[0], "--partd-tables-worker", "sql") // exits with an error, because it has no socket
	cmd.Env = []string{"GODEBUG=inittrace=1"}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "socket") {
		t.Fatalf("worker without a socket: error %v, output %s; want an error about the socket", err, out)
	}
	for _, slow := range []string{"iceberg-go/table/substrait", "google.golang.org/grpc"} {
		if strings.Contains(string(out), "init github.com/apache/"+slow+" ") || strings.Contains(string(out), "init "+slow+" ") {
			t.Errorf("a worker process initializes package %s before it starts its work", slow)
		}
	}
}
