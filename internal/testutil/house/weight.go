package house

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// CheckWeight fails the test where a package brings more packages into a program than
// most, or one of those that are unwanted: a path, or what begins with it and a slash.
// The module is taken by itself, as its users have it.
func CheckWeight(t *testing.T, path string, most int, unwanted ...string) {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", path)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	packages := strings.Fields(string(out))
	if len(packages) > most {
		t.Errorf("%s brings %d packages, and %d are the most", path, len(packages), most)
	}
	for _, p := range packages {
		for _, u := range unwanted {
			if p == u || strings.HasPrefix(p, u+"/") {
				t.Errorf("%s brings %s", path, p)
			}
		}
	}
}
