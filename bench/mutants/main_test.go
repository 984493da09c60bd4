package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

const root = "../.."

// TestLists checks that each mutant is complete and changes the current source, and that its tests
// exist. It compiles and runs nothing.
func TestLists(t *testing.T) {
	mutants := must.Get(readLists(root))(t)
	names := map[string]bool{}
	tests := map[string]string{} // for each directory, the source of its tests
	survivors := 0
	for _, m := range mutants {
		if names[m.name] || m.name == "" {
			t.Errorf("%s: two mutants have this name", m.name)
		}
		names[m.name] = true
		if len(m.why) < 20 || !strings.HasSuffix(m.why, ".") {
			t.Errorf("%s: a sentence must say why it is a mistake", m.name)
		}
		if m.found == "" {
			survivors++
			if len(m.survives) < 20 || !strings.HasSuffix(m.survives, ".") {
				t.Errorf("%s: a sentence must say why it survives", m.name)
			}
		}
		_, content, err := m.apply(root)
		if err == nil && strings.HasSuffix(m.in, ".go") {
			_, err = parser.ParseFile(token.NewFileSet(), m.name, content, parser.SkipObjectResolution)
		}
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		dir, pattern, _ := strings.Cut(m.test, " ")
		if _, ok := tests[dir]; !ok {
			tests[dir] = testSource(t, filepath.Join(root, dir))
		}
		for _, name := range append(strings.Split(pattern, "|"), m.found) {
			if name != "" && !regexp.MustCompile(`(?m)^(func|def|async def) `+name+`\(`).MatchString(tests[dir]) {
				t.Errorf("%s: %s has no test %s", m.name, dir, name)
			}
		}
		if pattern == "" || !strings.Contains(pattern, m.found) {
			t.Errorf("%s: the pattern %q lacks the test that finds it, %s", m.name, pattern, m.found)
		}
	}
	if survivors*20 > len(mutants) {
		t.Errorf("%d of %d mutants survive; at least 95%% must be found", survivors, len(mutants))
	}
}

// TestNoTestMatches checks that a pattern that matches no test causes an error, not a survivor.
func TestNoTestMatches(t *testing.T) {
	m := &mutant{in: "internal/base/textfmt/textfmt.go", old: "package textfmt", new: "package textfmt", test: "internal/base/textfmt TestThatWasRenamed"}
	if finder, err := m.runMutated(root); err == nil || finder != "" || !strings.Contains(err.Error(), "no test in") {
		t.Errorf("a mutant without tests: found by %q, error %v", finder, err)
	}
}

func testSource(t *testing.T, dir string) string {
	t.Helper()
	paths := must.Get(filepath.Glob(filepath.Join(dir, "*_test.go")))(t)
	if strings.HasSuffix(dir, ".py") {
		paths = []string{dir}
	}
	var all strings.Builder
	for _, path := range paths {
		source := must.Get(os.ReadFile(path))(t)
		all.Write(source)
	}
	return all.String()
}
