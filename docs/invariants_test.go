package docs_test

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	invariantID    = regexp.MustCompile(`(?m)^- \*\*([A-Z])(\d+)\.\*\*`)
	namedTest      = regexp.MustCompile("`(Test\\w+)`")
	namedMutant    = regexp.MustCompile("`([a-z][^`]+)`( \\(survives\\))?")
	testFunc       = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	mutantResult   = regexp.MustCompile(`(?ms)^mutant: (\S+)\n.*?^(?:found: (\w+)|survives:)`)
	invariantRange = regexp.MustCompile(`([A-Z])1 to ([A-Z]\d+)`)
)

// invariantPackages maps the letter of a group of invariants to the directories of the tests that guard them. Tests
// in subdirectories may also guard them, except in subdirectories of the root.
var invariantPackages = map[string][]string{
	"D": {".", "internal/command/servercli"}, "F": {".", "internal/disk/filedir"}, "B": {"."}, "L": {"logstore"}, "O": {"objstore"},
	"R": {"remote", "internal/command/servercli"}, "A": {"shuffle"}, "S": {"shards"}, "C": {"tables"},
}

// TestInvariants checks that docs/dev/invariants.md numbers invariants consecutively, and names tests of the right
// packages. Each mutant (a planted bug) in it must exist, and either the test that finds the mutant must be named, or
// the mutant must be marked as surviving. Package comments must name all invariants.
func TestInvariants(t *testing.T) {
	page := readFile(t, "docs/dev/invariants.md")
	last := map[string]int{}
	for _, m := range invariantID.FindAllStringSubmatch(page, -1) {
		last[m[1]]++
		if m[2] != fmt.Sprint(last[m[1]]) {
			t.Errorf("docs/dev/invariants.md: %s%s follows %s%d", m[1], m[2], m[1], last[m[1]]-1)
		}
	}
	finders := mutantFinders(t)
	testDirs, referred := map[string][]string{}, map[string]bool{}
	for _, name := range filesBelow(t, ".go") {
		text := readFile(t, name)
		for _, m := range testFunc.FindAllStringSubmatch(text, -1) {
			testDirs[m[1]] = append(testDirs[m[1]], path.Dir(name))
		}
		if comment, _, _ := strings.Cut(text, "\npackage "); strings.Contains(comment, "docs/dev/invariants.md") {
			for _, m := range invariantRange.FindAllStringSubmatch(comment, -1) {
				referred[m[1]] = true
				if want := fmt.Sprint(m[1], last[m[1]]); m[2] != want {
					t.Errorf("%s: the comment names the invariants %s, but the last one is %s", name, m[0], want)
				}
			}
		}
	}
	for i, item := range strings.Split(page, "\n- **") {
		if i == 0 {
			continue
		}
		id, _, _ := strings.Cut(item, ".")
		_, guards, _ := strings.Cut(item, "\n  Tests: ")
		tests, mutants, hasMutants := strings.Cut(guards, "\n  Mutants: ")
		mutants, _, _ = strings.Cut(mutants, ".\n")
		if !namedTest.MatchString(tests) || hasMutants == strings.Contains(tests, "\n  No mutant.") {
			t.Errorf("docs/dev/invariants.md: %s names no test, or has neither mutants nor the words \"No mutant.\"", id)
		}
		for _, m := range namedTest.FindAllStringSubmatch(tests, -1) {
			isGuard := func(dir string) bool {
				return slices.ContainsFunc(invariantPackages[id[:1]], func(p string) bool { return dir == p || strings.HasPrefix(dir, p+"/") })
			}
			if !slices.ContainsFunc(testDirs[m[1]], isGuard) {
				t.Errorf("docs/dev/invariants.md: %s names %s, which is in none of its packages %s", id, m[1], invariantPackages[id[:1]])
			}
		}
		for _, m := range namedMutant.FindAllStringSubmatch(mutants, -1) {
			finder, exists := finders[m[1]]
			switch {
			case !exists:
				t.Errorf("docs/dev/invariants.md: %s names the mutant %s, which does not exist", id, m[1])
			case (finder == "") != (m[2] != ""):
				t.Errorf("docs/dev/invariants.md: %s must mark the mutant %s with (survives) if and only if it survives", id, m[1])
			case finder != "" && !strings.Contains(tests, "`"+finder+"`"):
				t.Errorf("docs/dev/invariants.md: %s does not name %s, which finds the mutant %s", id, finder, m[1])
			}
		}
	}
	for letter := range last {
		if !referred[letter] {
			t.Errorf("no package comment refers to the invariants %s", letter)
		}
	}
}
