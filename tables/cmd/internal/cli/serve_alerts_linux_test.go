//go:build cgo

package cli

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// TestServeAlerts brings a server into each state that an alert is for, and checks with the server's own metrics that
// these alerts fire, and no others.
func TestServeAlerts(t *testing.T) {
	disk, address := vfstest.Mount(t, "tmpfs", 64<<20), "localhost:"+nettest.FreePort(t)
	dir := filepath.Join(disk, "house")
	cmd, _ := startServer(t, "--listen", "grpc://localhost:0", "--http", address, "--dir", dir, "--max-queries", "1", "--idle-timeout", "900ms", "--maintain=false")
	post := func(path, body string) int {
		code, _ := fetch(t, address, path, strings.NewReader(body))
		return code
	}
	scrape := func() string {
		_, text := fetch(t, address, "/metrics", nil)
		return text
	}
	var before string
	var free, busy func()
	// check checks the alerts of the state that begin has created. A state lasts at least 3 s.
	check := func(name string, begin func(), want ...string) {
		t.Helper()
		before = scrape()
		start := time.Now()
		begin()
		time.Sleep(time.Until(start.Add(3 * time.Second)))
		after := scrape()
		gap := time.Since(start)
		t.Run(name, func(t *testing.T) {
			t.Helper()
			procs.CheckAlerts(t, "../../../../packaging/monitoring/alerts.yml", "partd-tables", before, after, gap, want...)
		})
	}
	put := func(table, rows string) int {
		return post("/api/put?bucket=b&mode=append&format=csv&table="+table, "x\n"+rows)
	}
	query := func(sql string) {
		_, err := postQuery(t.Context(), address, sql)
		must.Check(t, err)
	}
	check("healthy", func() {
		if code := put("t", "1\n"); code != http.StatusOK {
			t.Fatalf("put: status %d", code)
		}
		if code := post("/api/action", `{"action":"snapshot","bucket":"b","name":"a"}`); code != http.StatusOK { // folds first
			t.Errorf("snapshot: status %d", code)
		}
		query("SELECT 1")
		for range 10 { // faults of clients
			query("SELECT * FROM nothing")
			post("/api/put?bucket=b&format=nothing&table=t", "x")
			post("/api/action", "{")
		}
	})
	check("full disk", func() {
		if code := put("t", "2\n"); code != http.StatusOK { // to the tail
			t.Fatalf("put: status %d", code)
		}
		free = vfstest.Fill(t, disk)
		if code := put("t", strings.Repeat("1\n", 500_000)); code != http.StatusInsufficientStorage {
			t.Errorf("put to a full disk: status %d, want 507", code)
		}
		post("/api/action", `{"action":"snapshot","bucket":"b","name":"s"}`) // folds first
	}, "PartdTablesNotReady", "PartdTablesDiskFullWithinADay", "PartdTablesFull", "PartdTablesFoldsFail", "PartdTablesTailOld")
	free()
	check("space again", func() {
		if code := post("/api/action", `{"action":"snapshot","bucket":"b","name":"t"}`); code != http.StatusOK {
			t.Errorf("snapshot: status %d", code)
		}
	})
	check("busy", func() {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		busy = cancel
		for range serving.MaxRequests { // one address may send only half as many at a time
			go func() { _, _ = postQuery(ctx, address, uninterruptible) }()
		}
	}, "PartdTablesQueue", "PartdTablesRefuses")
	busy()
	check("broken directory", func() {
		if code := put("t", "3\n"); code != http.StatusOK { // to the tail
			t.Fatalf("put: status %d", code)
		}
		must.Do(t, errors.Join(os.RemoveAll(filepath.Join(dir, "data")), os.WriteFile(filepath.Join(dir, "data"), nil, 0o600)))
		if code := post("/api/action", `{"action":"snapshot","bucket":"b","name":"u"}`); code != http.StatusInternalServerError {
			t.Errorf("snapshot without the directory: status %d, want 500", code)
		}
	}, "PartdTablesFailures", "PartdTablesFoldsFail", "PartdTablesTailOld")
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
	t.Run("dead", func(t *testing.T) {
		procs.CheckAlerts(t, "../../../../packaging/monitoring/alerts.yml", "partd-tables", before, "", time.Second, "PartdTablesDown")
	})
}
