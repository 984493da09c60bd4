package layering

import (
	"os/exec"
	"strings"
	"testing"
)

// CheckWeight fails the test if importing the package path links more than max packages, or an
// unwanted package. Each path in unwanted stands for a package and all packages below it.
func CheckWeight(t *testing.T, path string, max int, unwanted ...string) {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", path)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	packages := strings.Fields(string(out))
	if len(packages) > max {
		t.Errorf("%s links %d packages, want at most %d", path, len(packages), max)
	}
	for _, p := range packages {
		for _, u := range unwanted {
			if p == u || strings.HasPrefix(p, u+"/") {
				t.Errorf("%s links %s", path, p)
			}
		}
	}
}
