package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The program is built where it is installed: docs/design.md says what weighs in it.
func TestPackages(t *testing.T) {
	const most = 750
	cmd := exec.Command("go", "list", "-deps", ".")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if len(packages) > most {
		t.Errorf("%d packages are compiled, and %d are the most", len(packages), most)
	}
	for _, p := range packages {
		for _, heavy := range []string{"cloud.google.com/go/storage", "github.com/envoyproxy/", "google.golang.org/api/"} {
			if strings.HasPrefix(p, heavy) {
				t.Errorf("%s is among them", p)
			}
		}
	}
}
