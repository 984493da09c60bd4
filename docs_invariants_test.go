package partd_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	invariantID    = regexp.MustCompile(`(?m)^- \*\*([A-Z])(\d+)\.\*\*`)
	namedTest      = regexp.MustCompile("`(Test\\w+)`")
	namedMutant    = regexp.MustCompile(`Mutants: ([^.]*)\.`)
	testFunc       = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	mutantName     = regexp.MustCompile(`(?m)^mutant: (\S+)`)
	invariantRange = regexp.MustCompile(`([A-Z])1 to ([A-Z]\d+)`)
)

// TestInvariants checks that the tests and mutants that docs/invariants.md names exist, that its numbers are
// consecutive, and that package comments name them all.
func TestInvariants(t *testing.T) {
	data, err := os.ReadFile("docs/invariants.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	last := map[string]int{}
	for _, m := range invariantID.FindAllStringSubmatch(page, -1) {
		last[m[1]]++
		if m[2] != fmt.Sprint(last[m[1]]) {
			t.Errorf("docs/invariants.md: %s%s follows %s%d", m[1], m[2], m[1], last[m[1]]-1)
		}
	}
	for item := range strings.SplitSeq(page, "\n- **") {
		if invariantID.MatchString("- **"+item) && !namedTest.MatchString(item) {
			t.Errorf("docs/invariants.md names no test for this invariant: %.40s", item)
		}
	}
	exists, referred := map[string]bool{}, map[string]bool{}
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		isList := strings.HasPrefix(filepath.ToSlash(path), "bench/mutants/") && strings.HasSuffix(path, ".txt")
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules"):
			return fs.SkipDir
		case d.IsDir() || !isList && filepath.Ext(path) != ".go":
			return nil
		}
		text, err := os.ReadFile(path)
		if isList {
			exists["mutants"] = true
		}
		for _, m := range append(testFunc.FindAllSubmatch(text, -1), mutantName.FindAllSubmatch(text, -1)...) {
			exists[string(m[1])] = true
		}
		if comment, _, _ := strings.Cut(string(text), "\npackage "); strings.Contains(comment, "docs/invariants.md") {
			for _, m := range invariantRange.FindAllStringSubmatch(comment, -1) {
				referred[m[1]] = true
				if want := fmt.Sprint(m[1], last[m[1]]); m[2] != want {
					t.Errorf("%s: the comment names the invariants %s, but the last one is %s", path, m[0], want)
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	names := namedTest.FindAllStringSubmatch(page, -1)
	if exists["mutants"] {
		for _, m := range namedMutant.FindAllStringSubmatch(page, -1) {
			names = append(names, regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(m[1], -1)...)
		}
	}
	for _, m := range names {
		if !exists[m[1]] {
			t.Errorf("docs/invariants.md names %s, which does not exist", m[1])
		}
	}
	for letter := range last {
		if !referred[letter] {
			t.Errorf("no package comment refers to the invariants %s", letter)
		}
	}
}
