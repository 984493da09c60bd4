//go:build cgo && linux

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
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

// TestServeStopsQuickly stops a server whose clients have opened connections of all kinds, but run no call.
func TestServeStopsQuickly(t *testing.T) {
	http1, http2 := "localhost:"+nettest.FreePort(t), "localhost:"+nettest.FreePort(t)
	secret := writeTemp(t, "secret", strings.Repeat("s", 40))
	cmd, u := startServer(t, "--listen", "grpc://localhost:0", "--http", http1, "--rest", http2, "--dir", t.TempDir(), "--secret-file", secret, "--insecure")
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	settings := string([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0})
	for _, address := range []string{u.Host, http1, http2} {
		for _, text := range []string{"", "P", preface, preface + settings, "GET /readyz HTT", "POST /api/sign-in HTTP/1.1\r\nHost: localhost\r\nX-Partd: 1\r\nContent-Length: 100\r\n\r\n{", "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"} {
			for range 12 {
				conn := must.Get(net.Dial("tcp", address))(t)
				defer conn.Close()
				must.Get(io.WriteString(conn, text))(t)
			}
		}
	}
	time.Sleep(time.Second) // until the server has accepted the connections
	start := time.Now()
	must.Do(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil || time.Since(start) > 2*time.Second {
		t.Errorf("the server stopped after %v with error %v, want no error within 2 s", time.Since(start), err)
	}
	t.Logf("stopped after %v", time.Since(start))
}

// TestServeFullDisk fills the disk of a server. It must not be ready until there is space again. If it is stopped while
// the disk is full, it must end without an error, because no row is lost.
func TestServeFullDisk(t *testing.T) {
	disk, address := vfstest.Mount(t, "tmpfs", 64<<20), "localhost:"+nettest.FreePort(t)
	dir := filepath.Join(disk, "house")
	args := []string{"--listen", "grpc://localhost:0", "--http", address, "--dir", dir}
	cmd, _ := startServer(t, args...)
	get := func(path string) (int, string) {
		t.Helper()
		return fetch(t, address, path, nil)
	}
	put := func(table string, rows int) (int, string) {
		t.Helper()
		return fetch(t, address, "/api/put?bucket=b&mode=append&format=csv&table="+table, strings.NewReader("x\n"+strings.Repeat("1.5\n", rows)))
	}
	metrics := func(want ...string) {
		t.Helper()
		_, text := get("/metrics")
		for _, line := range want {
			if !strings.Contains(text, "\n"+line) {
				t.Errorf("the metrics have no line %q: %s", line, text)
			}
		}
	}
	for range 2 { // the second put goes to the tail
		if code, text := put("t", 3); code != http.StatusOK {
			t.Fatalf("put: status %d: %s", code, text)
		}
	}
	if code, text := get("/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d %s, want 200", code, text)
	}
	metrics("partd_tables_ready 1\n", "partd_tables_tail_rows 6\n", "partd_tables_disk_full_total 0\n", `partd_tables_operations_total{operation="fold",outcome="error"} 0`)
	free := vfstest.Fill(t, disk)
	if code, text := get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(text, "no space left") || strings.Contains(text, disk) {
		t.Errorf("/readyz on a full disk: %d %s, want 503 and the reason without a path", code, text)
	}
	if code, text := put("t", 200_000); code != http.StatusInsufficientStorage || strings.Contains(text, disk) {
		t.Errorf("put to a full disk: %d %s, want 507 without a path", code, text)
	}
	if code, text := get("/iceberg/v1/namespaces/b/tables/t"); code != http.StatusServiceUnavailable || !strings.Contains(text, "no space left") || strings.Contains(text, disk) {
		t.Errorf("load in the Iceberg catalog on a full disk: %d %s, want 503 without a path", code, text)
	}
	metrics("partd_tables_ready 0\n", "partd_tables_disk_free_bytes 0\n", "partd_tables_disk_full_total 2\n", `partd_tables_calls_total{code="ResourceExhausted",method="http-put"} 1`)
	free()
	if code, text := get("/readyz"); code != http.StatusOK {
		t.Errorf("/readyz after space was freed: %d %s, want 200", code, text)
	}
	if code, text := put("t", 3); code != http.StatusOK {
		t.Errorf("put after space was freed: %d %s", code, text)
	}
	free = vfstest.Fill(t, disk)
	start := time.Now()
	must.Do(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil || time.Since(start) > 2*time.Second {
		t.Errorf("on a full disk, the server stopped after %v with error %v, want no error within 2 s", time.Since(start), err)
	}
	free()
	startServer(t, args...)
	if text, err := postQuery(t.Context(), address, "SELECT error('rows: ' || count(*)) FROM b.t"); err != nil || !strings.Contains(text, "rows: 9") {
		t.Errorf("after a restart, the query returned %s, %v, want 9 rows", text, err)
	}
}
