//go:build cgo && linux

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
)

const uninterruptible = "SELECT max(levenshtein(x, y)) FROM (SELECT repeat('a', 65000) || range AS x, repeat('b', 65000) || range AS y FROM range(100000))"

func postQuery(ctx context.Context, address, sql string) (string, error) {
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

// startEight starts eight statements that cannot be interrupted and run until ctx ends. It returns their processes.
func startEight(t *testing.T, ctx context.Context, cmd *exec.Cmd, address string) []int {
	t.Helper()
	for range 8 {
		go func() { _, _ = postQuery(ctx, address, uninterruptible) }()
	}
	waitUntil(t, "fewer than eight statements are running", func() bool { return len(procs.Children(cmd.Process.Pid)) >= 8 })
	time.Sleep(time.Second) // wait until all statements have begun
	return procs.Children(cmd.Process.Pid)
}

func startHTTPServer(t *testing.T, args ...string) (*exec.Cmd, string) {
	t.Helper()
	address := "localhost:" + nettest.FreePort(t)
	cmd, _ := startServer(t, append([]string{"--listen", "grpc://localhost:0", "--http", address, "--dir", t.TempDir()}, args...)...)
	return cmd, address
}

// TestServeUninterruptible runs statements that cannot be interrupted. After their clients have disconnected, they
// must use no more resources. Statements that still run must not prevent the server from stopping.
func TestServeUninterruptible(t *testing.T) {
	cmd, address := startHTTPServer(t, "--drain-timeout", "1s")
	clientCtx, disconnect := context.WithCancel(t.Context())
	startEight(t, clientCtx, cmd, address)
	disconnect()
	const spares = 4
	waitUntil(t, "processes of disconnected clients are still running", func() bool { return len(procs.Children(cmd.Process.Pid)) <= spares })
	start := time.Now()
	if text, err := postQuery(t.Context(), address, "SELECT 1"); err != nil || !strings.HasPrefix(text, "200") || time.Since(start) > 5*time.Second {
		t.Errorf("SELECT 1 = %q, %v after %v, want status 200 within 5 s", text, err, time.Since(start))
	}
	running := startEight(t, t.Context(), cmd, address)
	must.Do(t, cmd.Process.Signal(syscall.SIGTERM))
	start = time.Now()
	if err := cmd.Wait(); err != nil || time.Since(start) > 3*time.Second { // 1 s more than documented, for slow machines
		t.Errorf("the server stopped after %v with error %v, want no error within 3 s", time.Since(start), err)
	}
	t.Logf("stopped after %v", time.Since(start))
	waitUntilGone(t, running)
}

// TestServeFoldsAfterHTTP stops the server while a put over HTTP is running. The put must finish, and its rows
// must be folded (moved into data files) before the server exits.
func TestServeFoldsAfterHTTP(t *testing.T) {
	dir, address := t.TempDir(), "localhost:"+nettest.FreePort(t)
	cmd, _ := startServer(t, "--listen", "grpc://localhost:0", "--http", address, "--dir", dir)
	body, rows := io.Pipe()
	r := must.Get(http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/api/put?bucket=b&table=t&mode=append&format=csv", body))(t)
	r.Header.Set("X-Partd", "1")
	answer := make(chan error, 1)
	go func() {
		a, err := http.DefaultClient.Do(r)
		if err == nil && a.StatusCode != http.StatusOK {
			err = errors.New(a.Status)
		}
		answer <- err
	}()
	_, _ = io.WriteString(rows, "x\n1\n")
	time.Sleep(300 * time.Millisecond) // wait until the put is running
	must.Do(t, cmd.Process.Signal(syscall.SIGTERM))
	time.Sleep(300 * time.Millisecond)
	_ = rows.Close()
	must.Do(t, <-answer)
	must.Do(t, cmd.Wait())
	store := must.Get(tables.Open(t.Context(), dir, &tables.Options{ReadOnly: true}))(t)
	defer store.Close()
	table := must.Get(partdiceberg.Load(t.Context(), store.Bucket("b").Table("t"), nil))(t)
	if table.CurrentSnapshot() == nil {
		t.Error("the server stopped without folding the rows into files")
	}
}

func TestServeKilled(t *testing.T) {
	cmd, address := startHTTPServer(t)
	running := startEight(t, t.Context(), cmd, address)
	must.Do(t, cmd.Process.Kill())
	_ = cmd.Wait()
	waitUntilGone(t, running)
}

func waitUntilGone(t *testing.T, pids []int) {
	t.Helper()
	waitUntil(t, "processes outlive the server", func() bool {
		for _, pid := range pids {
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(b) > 0 {
				return false
			}
		}
		return true
	})
}

// TestServeMaxSpill checks that the temporary files of uploads and queries share one limit.
func TestServeMaxSpill(t *testing.T) {
	_, address := startHTTPServer(t, "--max-spill", "64MiB", "--memory", "64MiB", "--max-queries", "1")
	put := func(size int) (int, string) {
		t.Helper()
		body := io.MultiReader(strings.NewReader("x\n"), io.LimitReader(zeros{}, int64(size)))
		return fetch(t, address, "/api/put?bucket=b&table=t&format=csv&mode=replace", body)
	}
	if code, text := put(40 << 20); code != http.StatusTooManyRequests || !strings.Contains(text, "temporary files") {
		t.Errorf("put of 40 MiB: got %d %s, want the error for too many temporary files", code, text)
	}
	for range 5 { // each file counts only until its put ends
		if code, text := put(20 << 20); code == http.StatusTooManyRequests {
			t.Errorf("put of 20 MiB: got %d %s, want no error for too many temporary files", code, text)
		}
	}
	const sorts = "SELECT max(s) FROM (SELECT md5(range::VARCHAR) || md5((range + 1)::VARCHAR) AS s, row_number() OVER (ORDER BY md5((range + 2)::VARCHAR)) FROM range(2000000))"
	if text, err := postQuery(t.Context(), address, sorts); err != nil || !strings.HasPrefix(text, "400") || !strings.Contains(text, "/32.0 MiB used") {
		t.Errorf("query with large sorts = %q, %v, want the error for the limit", text, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}
