package cli

import (
	"net/http"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestHealth checks the exit code of health for a ready server, over HTTP, TLS and from the server's variables, and for
// a server that does not run. The health address must not reach the tables.
func TestHealth(t *testing.T) {
	cert, key := certificate(t)
	web, probes := "localhost:"+freePort(t), freePort(t)
	cmd, _ := startServer(t, "--listen", "grpc+tls://localhost:0", "--tls-cert", cert, "--tls-key", key, "--dir", t.TempDir(), "--http", web, "--health", ":"+probes)
	check := func(want int, args ...string) string {
		t.Helper()
		out, stderr, code := command(t, "", append([]string{"health"}, args...)...)
		if code != want || (out == "ok\n") != (want == 0) {
			t.Errorf("health %q: exit code %d, output %q, stderr %q, want code %d", args, code, out, stderr, want)
		}
		return stderr
	}
	check(0, "http://"+web)
	check(0, "http://localhost:"+probes+"/", "--live")
	check(0, "https://"+web, "--ca", cert)
	check(0, "--health", ":"+probes)
	check(0, "--http", "0.0.0.0:"+probes)
	if text := check(cliutil.ExitFailed, "https://"+web); !strings.Contains(text, "certificate") {
		t.Errorf("without the authority, health says %q, want an error about the certificate", text)
	}
	check(cliutil.ExitUsage)
	check(cliutil.ExitUsage, "localhost:1")
	check(cliutil.ExitUsage, "--http", "localhost")
	t.Setenv("PARTD_TABLES_HTTP", "localhost:1")
	check(cliutil.ExitFailed)
	t.Setenv("PARTD_TABLES_HEALTH", "[::]:"+probes)
	check(0)
	for path, want := range map[string]int{"/metrics": 200, "/readyz": 200, "/": 404, "/api/tree": 404, "/iceberg/v1/config": 404, "/v1/config": 404} {
		r := must.Get(http.Get("http://localhost:" + probes + path))(t)
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("GET %s at the health address: got %s, want %d", path, r.Status, want)
		}
	}
	must.Do(t, cmd.Process.Kill())
	_ = cmd.Wait()
	check(cliutil.ExitFailed)
}
