package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestReleaseNamesWhatIsMissing checks that packaging/release names everything that a machine lacks, with Debian's
// packages, before it builds anything.
func TestReleaseNamesWhatIsMissing(t *testing.T) {
	bin, out := t.TempDir(), filepath.Join(t.TempDir(), "dist")
	for _, program := range []string{"bash", "date", "dirname", "env", "git", "go", "mktemp", "realpath", "rm", "sed", "tar"} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Skip(err)
		}
		must.Do(t, os.Symlink(path, filepath.Join(bin, program)))
	}
	cmd := exec.Command("bash", "release", "v0.1.0", out)
	cmd.Env = append(os.Environ(), "PATH="+bin)
	text, err := cmd.CombinedOutput()
	if err == nil {
		t.Errorf("packaging/release succeeds without compilers:\n%s", text)
	}
	for _, want := range []string{"aarch64-linux-gnu-g++; ", "x86_64-linux-gnu-g++; ", "readelf; ", "Python's venv; ", "apt-get install ", "g++-aarch64-linux-gnu", "python3-venv"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("packaging/release printed %q, want %q in it", text, want)
		}
	}
	if strings.Contains(string(text), "go.dev") || strings.Contains(string(text), "==") {
		t.Errorf("packaging/release printed %q, want neither Go, which exists, nor a step", text)
	}
	if _, err := os.Stat(out); err == nil {
		t.Errorf("packaging/release created %s", out)
	}
}

// TestContact checks that the contact address is only in packaging/maintainer, from where packaging/release reads it.
func TestContact(t *testing.T) {
	contact := strings.TrimSpace(string(must.Get(os.ReadFile("maintainer"))(t)))
	_, address, _ := strings.Cut(strings.TrimSuffix(contact, ">"), "<")
	if !strings.Contains(address, "@") || strings.Contains(contact, "\n") {
		t.Errorf("packaging/maintainer has %q, want one line with NAME <ADDRESS>", contact)
	}
	for file, want := range map[string]string{"nfpm/nfpm.yaml": "@MAINTAINER@", "release": "packaging/maintainer", "../SECURITY.md": "`packaging/maintainer`"} {
		text := string(must.Get(os.ReadFile(file))(t))
		if !strings.Contains(text, want) || strings.Contains(text, address) {
			t.Errorf("%s lacks %s, or has the address itself", file, want)
		}
	}
}
