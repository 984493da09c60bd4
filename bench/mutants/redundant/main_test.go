package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

const source = `package larger

// Larger returns the larger number.
func Larger(a, b int) int {
	if a > b {
		return a
	}
	return b
}
`

const sourceTest = `package larger

import (
	"os/exec"
	"testing"
)

func TestLarger(t *testing.T) {
	if Larger(1, 2) != 2 || Larger(2, 1) != 2 {
		t.Error("wrong")
	}
}

func TestFirst(t *testing.T) {
	if n := Larger(2, 1); n != 2 {
		t.Error(n)
	}
}

func TestChecksNothing(t *testing.T) {
	Larger(1, 2)
	Larger(2, 1)
	t.Log("a longer test")
	t.Log("than the others")
}

func TestNamed(t *testing.T) { Larger(1, 2) }

func TestProcess(t *testing.T) {
	Larger(1, 2)
	_ = exec.Command("true").Run()
}

func TestSkipped(t *testing.T) { t.Skip() }
`

// TestRedundant checks that the list has TestChecksNothing and one of the two tests that find the same mutants.
func TestRedundant(t *testing.T) {
	dir, measured := t.TempDir(), t.TempDir()
	for name, content := range map[string]string{
		"go.mod": "module github.com/go-partd/partd\n\ngo 1.26\n", "larger.go": source, "larger_test.go": sourceTest, "README.md": "TestNamed checks this.\n",
	} {
		must.Do(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666))
	}
	t.Chdir(dir)
	for name, value := range map[string]string{"module": ".", "state": measured, "each": "8"} {
		must.Do(t, flag.Set(name, value))
	}
	list := output(t, measured)
	if !strings.Contains(list, ".\tTestChecksNothing\t") || !strings.Contains(list, ".\tTestLarger\t") || !strings.HasSuffix(list, "\n2 of 6 tests, 11 lines\n") {
		t.Errorf("the list is\n%s", list)
	}
	must.Do(t, flag.Set("random", "."))
	if text := output(t, measured); !strings.HasSuffix(text, "\n1 of 1 mutants found (100.0 %)\n") {
		t.Errorf("with --random, the output is\n%s", text)
	}
}

// output runs the command, and returns its standard output.
func output(t *testing.T, dir string) string {
	t.Helper()
	out := must.Get(os.Create(filepath.Join(dir, "output")))(t)
	stdout := os.Stdout
	os.Stdout = out
	err := run()
	os.Stdout = stdout
	must.Do(t, err)
	return string(must.Get(os.ReadFile(out.Name()))(t))
}
