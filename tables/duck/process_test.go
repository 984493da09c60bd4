//go:build cgo && linux

package duck_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
)

// workers are the processes that this one has started and that are not yet over.
func workers(t *testing.T) (all []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); f[1] == strconv.Itoa(os.Getpid()) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			all = append(all, pid)
		}
	}
	return all
}

// peak is the most memory that a process has had, in bytes.
func peak(pid int) (n int64) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // it may have ended
	if _, rest, ok := strings.Cut(string(b), "VmHWM:"); ok {
		_, _ = fmt.Sscan(rest, &n)
	}
	return n << 10
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for late := time.Now().Add(10 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal(what)
		}
	}
}

// greedy are statements that take gigabytes whatever DuckDB's limit is.
var greedy = map[string]string{
	"median":      "SELECT median(range) FROM range(300000000)",
	"list":        "SELECT range % 1000000 AS g, list(range) FROM range(1000000000) GROUP BY g",
	"json_object": "SELECT json_object(" + strings.TrimSuffix(strings.Repeat("'k',repeat('x',65536),", 4000), ",") + ")",
	"wide rows":   "SELECT " + strings.TrimSuffix(strings.Repeat("repeat('x', 65536 - (range % 2)::INT),", 4000), ",") + " FROM range(2048)",
}

// TestGreedy runs what takes more memory than it may have: the error is the
// statement's, and no more than its part is ever taken.
func TestGreedy(t *testing.T) {
	const memory, fixed = 128 << 20, 200 << 20 // see docs/sql.md
	s := newStore(t, &duck.Options{Processes: true, Memory: memory, MaxTemp: 1 << 30, Threads: 2})
	for name, sql := range greedy {
		t.Run(name, func(t *testing.T) {
			most, stop := int64(0), make(chan struct{})
			watched := make(chan struct{})
			go func() {
				defer close(watched)
				for {
					for _, pid := range workers(t) {
						most = max(most, peak(pid))
					}
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
					}
				}
			}()
			_, err := rows(t, s, sql, nil)
			close(stop)
			<-watched
			t.Logf("%d MiB, %.200v", most>>20, err)
			if !errors.As(err, new(*tables.SQLError)) {
				t.Errorf("no error of the statement: %v", err)
			}
			if most > memory+fixed {
				t.Errorf("it took %d MiB", most>>20)
			}
		})
	}
	expect(t, s, "SELECT 1", nil, "1")
}

const endless = "SELECT max(levenshtein(x, y)) FROM (SELECT repeat('a', 65000) || range AS x, repeat('b', 65000) || range AS y FROM range(100000))"

// TestUninterruptible cancels what DuckDB cannot interrupt.
func TestUninterruptible(t *testing.T) {
	temp := t.TempDir()
	s := newStore(t, &duck.Options{Processes: true, Queries: 1, TempDir: temp})
	before := len(workers(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := time.Now()
	_, err := s.Query(ctx, endless, nil)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 3*time.Second {
		t.Error(err, time.Since(began))
	}
	expect(t, s, "SELECT 1", nil, "1") // in the only slot
	const spares = 4
	eventually(t, "processes are left", func() bool { return len(workers(t)) <= before+spares })
	eventually(t, "temporary files are left", func() bool {
		left, err := filepath.Glob(filepath.Join(temp, "*", "spill-*"))
		return err == nil && len(left) == 0
	})
}

// TestProcessHasNothing looks at what a process has of the one that started it.
func TestProcessHasNothing(t *testing.T) {
	t.Setenv("PARTD_TEST_SECRET", "hunter2")
	s := newStore(t, &duck.Options{Processes: true})
	file, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := s.Query(t.Context(), "SELECT * FROM range(100000000)", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	pids := workers(t)
	if len(pids) == 0 {
		t.Fatal("there is no process")
	}
	for _, pid := range pids {
		environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || strings.Contains(string(environment), "SECRET") {
			t.Errorf("%q %v", environment, err)
		}
		open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil {
			t.Fatal(err)
		}
		sockets := 0
		for _, fd := range open {
			to, err := os.Readlink(fd)
			if err != nil {
				continue
			}
			switch {
			case strings.HasPrefix(to, "socket:"):
				sockets++
			case to == os.DevNull, strings.HasPrefix(to, "anon_inode:"), strings.HasPrefix(to, "pipe:"), strings.HasPrefix(to, "/sys/fs/cgroup/"): // Go's own
			default:
				t.Errorf("a process has %s", to)
			}
		}
		if sockets > 1 {
			t.Errorf("a process has %d sockets", sockets)
		}
	}
}

// TestDies kills a process at work, and a spare one.
func TestDies(t *testing.T) {
	s := newStore(t, &duck.Options{Processes: true})
	r, err := s.Query(t.Context(), "SELECT * FROM range(1000000000)", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Next()
	kill := func() {
		for _, pid := range workers(t) {
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
		t.Error(err)
	}
	r.Release()
	eventually(t, "there is no spare one", func() bool { return len(workers(t)) > 0 })
	kill()
	eventually(t, "one lives", func() bool { return len(workers(t)) == 0 })
	time.Sleep(100 * time.Millisecond) // until the engine knows
	expect(t, s, "SELECT 1", nil, "1")
}

// TestWaitingDies ends processes that wait just before a statement, which has another one.
func TestWaitingDies(t *testing.T) {
	s := newStore(t, &duck.Options{Processes: true, Threads: 1})
	for range 10 {
		expect(t, s, "SELECT 1", nil, "1")
		time.Sleep(60 * time.Millisecond) // until some wait
		for _, pid := range workers(t) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // or it has ended
		}
		expect(t, s, "SELECT 1", nil, "1")
	}
}

// TestBeginsSoon starts a process, which works before packages are initialized that only
// tables need: these take most of the time that a program needs to begin.
func TestBeginsSoon(t *testing.T) {
	cmd := exec.Command(os.Args[0], "--partd-tables-worker", "sql") // it has no socket, and says so
	cmd.Env = []string{"GODEBUG=inittrace=1"}
	said, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(said), "socket") {
		t.Fatalf("%v: %s", err, said)
	}
	for _, late := range []string{"iceberg-go/table/substrait", "google.golang.org/grpc"} {
		if strings.Contains(string(said), "init github.com/apache/"+late+" ") || strings.Contains(string(said), "init "+late+" ") {
			t.Errorf("a process begins with %s", late)
		}
	}
}
