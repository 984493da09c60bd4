package flightclient_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables/flightclient"
)

// TestProtocolVersions calls today's server with a client that speaks a later version of the protocol: this test, built
// with that version. The error must say which of the two to upgrade.
func TestProtocolVersions(t *testing.T) {
	const variable = "PARTD_TEST_OLDER_SERVER"
	ask := func(c *flightclient.Client) (err error) {
		for _, err = range c.Buckets(t.Context()) {
		}
		return err
	}
	c, _, _ := serve(t)
	if err := ask(c); err != nil {
		t.Fatalf("the client and the server speak the same version: error %v", err)
	}
	if older := os.Getenv(variable); older != "" {
		c, err := flightclient.Dial("grpc://"+older, nil)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("error:", ask(c), c.Close())
		return
	}
	const wire = "../internal/faces/operations/wire.go"
	text, err := os.ReadFile(wire)
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(text), "ProtocolVersion = 1\n", "ProtocolVersion = 2\n", 1)
	if newer == string(text) {
		t.Fatalf("%s does not set ProtocolVersion to 1: change this test", wire)
	}
	original, _ := filepath.Abs(wire)
	source, overlay := filepath.Join(t.TempDir(), "newer.go"), filepath.Join(t.TempDir(), "overlay.json")
	replaced, _ := json.Marshal(map[string]map[string]string{"Replace": {original: source}})
	if err := os.WriteFile(source, []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, replaced, 0o600); err != nil {
		t.Fatal(err)
	}
	address, _ := addresses.Load(t.Name())
	cmd := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-count=1", "-overlay="+overlay, "-run=^TestProtocolVersions$", "-v", ".")
	cmd.Env = append(os.Environ(), variable+"="+fmt.Sprint(address))
	out, err := cmd.CombinedOutput()
	if want := `error: the client speaks version 2 of the protocol, but the server version 1: upgrade the server <nil>`; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("the newer client printed %s, error %v, want %q", out, err, want)
	}
}
