package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

const source = `package larger

import "fmt"

// Larger returns the larger number.
func Larger(a, b int) int {
	if a > b {
		return a
	}
	return b
}

func describe(a, b int) (s string) {
	for i := range 2 {
		s += fmt.Sprintf("%d of %d%%;", i+1, Larger(a, b))
	}
	s = strings(s)
	return s
}

func strings(s string) string { return s }
`

const sourceTest = `package larger

import "testing"

func TestLarger(t *testing.T) {
	if Larger(1, 2) != 2 || Larger(2, 1) != 2 {
		t.Error("wrong")
	}
}
`

const describeTest = `
func TestDescribe(t *testing.T) {
	if s := describe(1, 2); s != "1 of 2%;2 of 2%;" {
		t.Error(s)
	}
}
`

// TestMeasure checks that a better test finds more mutants, and that mutants which change nothing survive.
func TestMeasure(t *testing.T) {
	planted := -1
	for _, tc := range []struct {
		tests string
		found int
	}{{sourceTest, 0}, {sourceTest + describeTest, 2}} {
		dir := t.TempDir()
		for name, content := range map[string]string{"go.mod": "module larger\n\ngo 1.26\n", "larger.go": source, "larger_test.go": tc.tests} {
			must.Do(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666))
		}
		found, n, err := measure(dir, ".")
		if err != nil || found != tc.found || planted >= 0 && n != planted {
			t.Errorf("with tests of %d lines, %d of %d mutants were found, error %v; want %d", strings.Count(tc.tests, "\n"), found, n, err, tc.found)
		}
		planted = n
	}
}
