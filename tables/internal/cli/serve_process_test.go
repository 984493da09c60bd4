//go:build cgo && linux

package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// children are the processes that one has started and that live.
func children(t *testing.T, of int) (all []int) {
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
		if f := strings.Fields(rest); f[1] == strconv.Itoa(of) && f[0] != "Z" {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			all = append(all, pid)
		}
	}
	return all
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for late := time.Now().Add(30 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal(what)
		}
	}
}

const uninterruptible = "SELECT max(levenshtein(x, y)) FROM (SELECT repeat('a', 65000) || range AS x, repeat('b', 65000) || range AS y FROM range(100000))"

// ask sends a query to the page's address, and returns the answer.
func ask(ctx context.Context, address, sql string) (string, error) {
	body := fmt.Sprintf(`{"id":"0123456789abcdef","sql":%q}`, sql)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/api/query", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set("X-Partd", "1")
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	return fmt.Sprint(a.StatusCode, " ", string(text)), err
}

// twelve runs statements that cannot be interrupted, until ctx ends, and returns
// their processes.
func twelve(t *testing.T, ctx context.Context, cmd *exec.Cmd, address string) []int {
	t.Helper()
	for range 12 {
		go func() { _, _ = ask(ctx, address, uninterruptible) }()
	}
	until(t, "twelve statements do not run", func() bool { return len(children(t, cmd.Process.Pid)) >= 12 })
	time.Sleep(time.Second) // in which they begin
	return children(t, cmd.Process.Pid)
}

func servingHTTP(t *testing.T, more ...string) (*exec.Cmd, string) {
	t.Helper()
	address := "localhost:" + freePort(t)
	cmd, _ := serving(t, append([]string{"--listen", "grpc://localhost:0", "--http", address, "--dir", t.TempDir()}, more...)...)
	return cmd, address
}

// Statements whose clients are gone hold nothing, and those that go on do not keep
// the server from ending.
func TestServeUninterruptible(t *testing.T) {
	cmd, address := servingHTTP(t, "--drain-timeout", "2s")
	gone, leave := context.WithCancel(t.Context())
	twelve(t, gone, cmd, address)
	leave()
	const spares = 4
	until(t, "processes of clients that are gone go on", func() bool { return len(children(t, cmd.Process.Pid)) <= spares })
	began := time.Now()
	if text, err := ask(t.Context(), address, "SELECT 1"); err != nil || !strings.HasPrefix(text, "200") || time.Since(began) > 5*time.Second {
		t.Error(text, err, time.Since(began))
	}
	left := twelve(t, t.Context(), cmd, address)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	if err := cmd.Wait(); err != nil || time.Since(began) > 10*time.Second {
		t.Error(err, time.Since(began))
	}
	gonePids(t, left)
}

// A server that is killed leaves no process behind.
func TestServeKilled(t *testing.T) {
	cmd, address := servingHTTP(t)
	left := twelve(t, t.Context(), cmd, address)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	gonePids(t, left)
}

func gonePids(t *testing.T, pids []int) {
	t.Helper()
	until(t, "processes outlive the server", func() bool {
		for _, pid := range pids {
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(b) > 0 {
				return false
			}
		}
		return true
	})
}
