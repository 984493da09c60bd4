package servercli_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestProtocolVersions connects a client and a server that speak different versions of the protocol. The client's
// error must say which of the two to upgrade.
func TestProtocolVersions(t *testing.T) {
	const protocol = "../../../remote/wire_protocol.go"
	text, err := os.ReadFile(protocol)
	must(t, err)
	newer := strings.Replace(string(text), "protocolVersion = 2\n", "protocolVersion = 3\n", 1)
	if newer == string(text) {
		t.Fatalf("%s does not set protocolVersion to 2: change this test", protocol)
	}
	dir := t.TempDir()
	source, overlay := filepath.Join(dir, "newer.go"), filepath.Join(dir, "overlay.json")
	original, err := filepath.Abs(protocol)
	must(t, err)
	replaced, err := json.Marshal(map[string]map[string]string{"Replace": {original: source}})
	must(t, err)
	must(t, os.WriteFile(source, []byte(newer), 0o600))
	must(t, os.WriteFile(overlay, replaced, 0o600))
	for name, flag := range map[string]string{"today": "-overlay=", "newer": "-overlay=" + overlay} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		build := exec.CommandContext(t.Context(), "go", "build", flag, "-o", filepath.Join(dir, name), "../../../cmd/partd", "../../../cmd/partd-server")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building the programs: %v\n%s", err, out)
		}
	}
	for _, c := range []struct{ server, client, want string }{
		{"today", "newer", "the client speaks version 3 of the protocol, but the server version 2: upgrade the server"},
		{"newer", "today", "the client speaks version 2 of the protocol, but the server version 3: upgrade the client"},
		{"newer", "newer", ""},
	} {
		p, err := procs.StartServer(t.Context(), exec.Command(filepath.Join(dir, c.server, "partd-server"), "--listen", "tcp://127.0.0.1:0", "--store", "mem:"), 1)
		must(t, err)
		t.Cleanup(p.Kill)
		out, err := exec.Command(filepath.Join(dir, c.client, "partd"), "keys", "--store", p.URL()).CombinedOutput()
		if (err == nil) != (c.want == "") || !strings.Contains(string(out), c.want) {
			t.Errorf("the server is of %s and the client of %s: partd keys printed %q, error %v, want %q", c.server, c.client, out, err, c.want)
		}
		stop(t, p)
	}
}
