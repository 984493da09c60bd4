package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

const packaging = "../../../../packaging/"

// TestPackaging checks the options in the systemd unit and in the sample for Kubernetes.
func TestPackaging(t *testing.T) {
	help, _, _ := command(t, "", "serve", "--help")
	for _, file := range []string{"partd-tables.service", "kubernetes/partd-tables.yaml", "Containerfile.tables"} {
		text := must.Get(os.ReadFile(packaging + file))(t)
		names := regexp.MustCompile(`PARTD_TABLES_[A-Z_]+`).FindAllString(string(text), -1)
		if len(names) < 3 {
			t.Errorf("%s sets the variables %s, want at least 3", file, names)
		}
		for _, name := range names {
			if !strings.Contains(help, "[$"+name+"]") {
				t.Errorf("%s sets %s, which is not an option of serve", file, name)
			}
		}
	}
}

// TestKubernetes validates the samples for Kubernetes with the schemas of its interface, and checks that the validation
// notices a misspelled field.
func TestKubernetes(t *testing.T) {
	validate := filepath.Join(filepath.Dir(procs.Python(t, "kubernetes")), "kubernetes-validate")
	files, err := filepath.Glob(packaging + "kubernetes/*.yaml")
	if err != nil || len(files) != 2 {
		t.Fatalf("the samples are %q, %v, want two", files, err)
	}
	for _, file := range files {
		out, err := exec.Command(validate, "--strict", file).CombinedOutput()
		if err != nil || strings.Count(string(out), "passed") != 2 {
			t.Errorf("%s: %v: %s, want that both objects pass", file, err, out)
		}
		text := must.Get(os.ReadFile(file))(t)
		wrong := writeTemp(t, "wrong.yaml", strings.Replace(string(text), "readinessProbe:", "readynessProbe:", 1))
		if out, err := exec.Command(validate, "--strict", wrong).CombinedOutput(); err == nil || !strings.Contains(string(out), "readynessProbe") {
			t.Errorf("the validation of %s with a misspelled probe: %v: %s, want an error", file, err, out)
		}
	}
}
