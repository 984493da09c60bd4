package cli

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/tables/internal/faces/operations"
)

// recorder is a server that records the names of actions. For the action that lists buckets, it sends the default
// bucket's name. For every other action, it sends {}.
type recorder struct {
	flight.BaseFlightServer
	actions chan string
}

func (r *recorder) DoAction(a *flight.Action, stream flight.FlightService_DoActionServer) error {
	r.actions <- a.Type
	body := "{}"
	if a.Type == operations.Buckets.Action() {
		body = `""`
	}
	return stream.Send(&flight.Result{Body: []byte(body)})
}

// TestOperations checks that every operation with a command is called by that command.
func TestOperations(t *testing.T) {
	l := must.Get(net.Listen("tcp", "localhost:0"))(t)
	server := flight.NewServerWithMiddleware(nil)
	server.InitListener(l)
	r := &recorder{actions: make(chan string, 10)}
	server.RegisterFlightService(r)
	go func() { _ = server.Serve() }()
	t.Cleanup(server.Shutdown)
	args := map[string][]string{
		"delete": {"t"}, "describe": {"t"}, "versions": {"t"}, "settings": {"--time", "at", "t"}, "partition": {"t"},
		"evolve": {"t", "--drop", "x"}, "delete-rows": {"t", "--where", "x > 1"}, "meta set": {"t", "k=v"}, "snapshot delete": {"s"}, "snapshot restore": {"s"},
		"resample": {"t", "u", "--sql", "SELECT 1"}, "combine": {"t", "u", "v"}, "clean": {"t"}, "sql": {"DELETE FROM t"},
		"backup": {"--to", "d", "--name", "n"}, "restore": {"--from", "d", "--name", "n"}, "copy": {"--to", "d"},
	}
	for _, o := range operations.All() {
		if o.Command == "" {
			continue
		}
		variants := [][]string{args[o.Command]}
		if o.Command == "rules" {
			variants = [][]string{{"list", "t"}, {"remove", "t", "r"}}
		}
		var called []string
		for _, variant := range variants {
			_, stderr, _ := command(t, "", append(append(strings.Fields(o.Command), "--server", "grpc://"+l.Addr().String()), variant...)...)
			for len(r.actions) > 0 {
				called = append(called, <-r.actions)
			}
			if len(called) == 0 {
				t.Errorf("%s %q called no action: %s", o.Command, variant, stderr)
			}
		}
		if !slices.Contains(called, o.Action()) {
			t.Errorf("%s called %q, but not %s", o.Command, called, o.Action())
		}
	}
}

// TestHealth checks the exit code of health for a ready server, over HTTP, TLS and from the server's variables, and for
// a server that does not run. The health address must not reach the tables.
func TestHealth(t *testing.T) {
	cert, key := certificate(t)
	web, probes := "localhost:"+nettest.FreePort(t), nettest.FreePort(t)
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
