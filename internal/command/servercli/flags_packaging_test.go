package servercli_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestPackaging checks the options in the systemd unit, the container file and the sample for Kubernetes, and the
// security scores of this unit and the one for partd-tables.
func TestPackaging(t *testing.T) {
	_, help, _ := runCommand(t, nil, "--help")
	for _, file := range []string{"../../../packaging/partd-server.service", "../../../packaging/Containerfile", "../../../packaging/kubernetes/partd-server.yaml"} {
		text := must.Get(os.ReadFile(file))(t)
		names := regexp.MustCompile(`PARTD_SERVER_[A-Z_]+`).FindAllString(string(text), -1)
		if len(names) < 3 {
			t.Errorf("%s sets the variables %s, want at least 3", file, names)
		}
		for _, name := range names {
			if !strings.Contains(help, name) {
				t.Errorf("%s sets %s, which is not an option of the server", file, name)
			}
		}
	}
	_, err := exec.LookPath("systemd-analyze")
	require(t, err == nil, "systemd-analyze")
	for _, unit := range []string{"partd-server", "partd-tables"} {
		out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=30", "../../../packaging/"+unit+".service").CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze security %s: %v: %s", unit, err, out)
		}
	}
}
