//go:build cgo

package cli

import (
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

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
