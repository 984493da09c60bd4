package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestServeMaintains checks that a server merges small files and expires versions, shows that in its metrics, its page
// and describe, and stops at once during a pass.
func TestServeMaintains(t *testing.T) {
	dir, address := t.TempDir(), "localhost:"+nettest.FreePort(t)
	store := tabletest.Open(t, dir, &tables.Options{NoTail: true})
	for i := range int64(20) {
		tabletest.Put(t, store.Bucket(""), "t", tables.PutAppend, i)
		tabletest.Put(t, store.Bucket(""), "off", tables.PutAppend, i)
	}
	must.Do(t, store.Bucket("").Table("off").SetSettings(t.Context(), tables.Settings{Maintenance: tables.MaintenanceOff}))
	must.Do(t, store.Close())
	cmd, url := startServer(t, "--listen", "grpc://localhost:0", "--http", address, "--dir", dir, "--maintain-every", "50ms", "--keep-versions", "3")
	state := func(name string) (m tables.MaintenanceState) {
		t.Helper()
		out := must.Get(program("describe", name, "--json", "--server", url.String()).Output())(t)
		var line struct{ Maintenance *tables.MaintenanceState }
		must.Do(t, json.Unmarshal(out, &line))
		if line.Maintenance == nil {
			t.Fatalf("describe wrote %s, want the state of the maintenance", out)
		}
		return *line.Maintenance
	}
	waitUntil(t, "the table is not maintained", func() bool { m := state("t"); return m.Files == 1 && m.Versions == 3 && !m.Last.IsZero() })
	if m := state("off"); m.Files != 20 || m.Versions != 20 || !strings.Contains(m.Reason, "off") {
		t.Errorf("the state of a table with the setting off is %+v", m)
	}
	code, text := fetch(t, address, "/api/table?table=t", nil)
	if code != http.StatusOK || !strings.Contains(text, `"maintenance":{"files":1,`) {
		t.Errorf("GET /api/table: status %d, body %.500s", code, text)
	}
	_, text = fetch(t, address, "/metrics", nil)
	for _, want := range []string{"partd_tables_maintenance_failing 0", `partd_tables_maintenance_last_seconds [\d.]`, `partd_tables_unused_bytes [1-9]`, `operations_total\{operation="maintain",outcome="ok"\}`} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	for i := range 200 { // so that a pass is probably running
		code, _ := fetch(t, address, fmt.Sprint("/api/put?mode=append&format=csv&table=u", i%20), strings.NewReader("x\n1\n"))
		if code != http.StatusOK {
			t.Fatalf("put: status %d", code)
		}
	}
	must.Do(t, cmd.Process.Signal(syscall.SIGTERM))
	start := time.Now()
	if err := cmd.Wait(); err != nil || time.Since(start) > 10*time.Second {
		t.Errorf("the server stopped after %v with error %v", time.Since(start), err)
	}
	if out, err := program("serve", "--dir", dir, "--keep-age", "-1h").CombinedOutput(); err == nil || !strings.Contains(string(out), "--keep-age") {
		t.Errorf("serve with a negative --keep-age: %s, %v", out, err)
	}
}
