package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

var (
	longStep    = regexp.MustCompile(`(?m)^\w+ +\d+ +.*$`)
	gotestRun   = regexp.MustCompile(`gotest [^\n]*'-run=([^'\n]*)'`)
	namedInTest = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w*)\(`)
)

// TestSteps checks that each pattern of go test in .ci/long and .ci/run matches tests. go test succeeds if a
// pattern matches no test, so a renamed test would never run again.
func TestSteps(t *testing.T) {
	checked, unmatched := unmatchedSteps(t, readFile(t, ".ci/long"), readFile(t, ".ci/run"))
	for _, message := range unmatched {
		t.Error(message)
	}
	if checked < 50 {
		t.Errorf("the steps have patterns for %d packages, want at least 50", checked)
	}
}

// TestUnmatchedStepIsFound checks that TestSteps fails for patterns that match no test.
func TestUnmatchedStepIsFound(t *testing.T) {
	for _, c := range []struct {
		long, run string
		unmatched int
	}{
		{"good 1 go test -run 'TestSteps|TestUnmatched' ./docs", "gotest '-run=TestCrashes' .", 0},
		{"renamed 1 go test -run NoSuchTest -timeout 3h ./docs", "", 2},
		{"half 1 go test -run 'TestSteps|NoSuchTest' ./docs", "", 1},
		{"moved 1 go test -run TestSteps . ./docs", "", 1},
		{"", "gotest '-run=TestCrashes|NoSuchTest' .", 1},
	} {
		if _, unmatched := unmatchedSteps(t, c.long, c.run); len(unmatched) != c.unmatched {
			t.Errorf("the steps %q and %q: found %q, want %d patterns without tests", c.long, c.run, unmatched, c.unmatched)
		}
	}
}

// TestRequireAll checks that tests read PARTD_REQUIRE_ALL only through helpers that skip a test without it. The step
// readme of .ci/run sets it only for tests that were skipped, so if it changed another test, that change would never
// run.
func TestRequireAll(t *testing.T) {
	checked := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		_, modErr := os.Stat(filepath.Join(path, "go.mod"))
		if d.IsDir() && path != "." && (modErr == nil || d.Name() == ".git" || path == filepath.Join("internal", "testutil")) {
			return fs.SkipDir // another module, or the helpers
		}
		if !strings.HasSuffix(path, "_test.go") {
			return err
		}
		checked++
		for _, call := range []string{"Getenv", "LookupEnv"} {
			if strings.Contains(readFile(t, path), call+`("PARTD_REQUIRE_ALL")`) {
				t.Errorf("%s reads PARTD_REQUIRE_ALL: use procs.Skip or storetest.CheckSlow", path)
			}
		}
		return err
	})
	if err != nil || checked < 100 {
		t.Errorf("checked %d files, error %v, want at least 100", checked, err)
	}
}

// unmatchedSteps returns a message for each pattern that matches no test: in .ci/long, for each package that lacks a
// test, and for each alternative that matches in no package of its step; in .ci/run, for each alternative that matches
// in no package of objstore, because only objstore's step has a pattern.
func unmatchedSteps(t *testing.T, long, run string) (checked int, unmatched []string) {
	t.Helper()
	for _, line := range longStep.FindAllString(long, -1) {
		command := strings.Join(strings.Fields(line)[2:], " ")
		dir := "."
		for prefix, d := range map[string]string{"tables:": "tables", "warehouses:": "tables", "buckets:": "objstore/cloud"} {
			if rest, ok := strings.CutPrefix(command, prefix); ok {
				command, dir = rest, d
			}
		}
		for part := range strings.SplitSeq(command, "&&") {
			words := strings.Fields(part)
			if len(words) == 2 && words[0] == "cd" {
				dir = filepath.Join(dir, words[1])
			}
			flag := "-run"
			if slices.Contains(words, "-fuzz") {
				flag = "-fuzz"
			}
			i := slices.Index(words, flag)
			if i < 0 || !strings.Contains(part, "go test ") {
				continue
			}
			pattern, _, _ := strings.Cut(strings.Trim(words[i+1], "'"), "/")
			var all []string
			for _, word := range words[i+2:] {
				if word == "." || strings.HasPrefix(word, "./") {
					checked++
					tests := testsIn(t, filepath.Join(dir, word))
					all = append(all, tests...)
					if !slices.ContainsFunc(tests, regexp.MustCompile(pattern).MatchString) {
						unmatched = append(unmatched, fmt.Sprintf(".ci/long: no test in %s matches %s %s, in the step: %s", filepath.Join(dir, word), flag, pattern, line))
					}
				}
			}
			unmatched = append(unmatched, unmatchedAlternatives(pattern, all)...)
		}
	}
	for _, m := range gotestRun.FindAllStringSubmatch(run, -1) {
		checked++
		unmatched = append(unmatched, unmatchedAlternatives(m[1], testsIn(t, "objstore"))...)
	}
	return checked, unmatched
}

// unmatchedAlternatives returns a message for each alternative of a pattern without parentheses that matches no test.
func unmatchedAlternatives(pattern string, tests []string) (unmatched []string) {
	for alternative := range strings.SplitSeq(pattern, "|") {
		if !slices.ContainsFunc(tests, regexp.MustCompile(alternative).MatchString) {
			unmatched = append(unmatched, fmt.Sprintf("no test matches %s of the pattern %s", alternative, pattern))
		}
	}
	return unmatched
}

// testsIn returns the names of the tests, fuzz targets and examples of a directory.
func testsIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	paths := must.Get(filepath.Glob(filepath.Join(dir, "*_test.go")))(t)
	for _, path := range paths {
		for _, m := range namedInTest.FindAllStringSubmatch(readFile(t, path), -1) {
			names = append(names, m[1])
		}
	}
	return names
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	return string(must.Get(os.ReadFile(name))(t))
}

var (
	suiteTest    = regexp.MustCompile(`"tables"(?:,\s+"[^"]*")*?,\s+"-run",\s+"(\w+)\$[^"]*",\s+"(\./[^"]*)",?\s*\]`)
	gobuildPaths = regexp.MustCompile(`go-partd/partd/tables/\{name\}"\s+for name in \(([^)]*)\)`)
)

// TestNamedPackages checks that the packages of tables that bench/suites/run and python/gobuild.py name exist, and have
// the suites' tests. Otherwise, a suite would run no test, and a package would be compiled as if it were not in the
// list.
func TestNamedPackages(t *testing.T) {
	suites := suiteTest.FindAllStringSubmatch(readFile(t, "bench/suites/run"), -1)
	for _, m := range suites {
		if dir := filepath.Join("tables", m[2]); !slices.Contains(testsIn(t, dir), m[1]) {
			t.Errorf("bench/suites/run: %s has no test %s", dir, m[1])
		}
	}
	list := gobuildPaths.FindStringSubmatch(readFile(t, "python/gobuild.py"))
	if len(suites) < 6 || list == nil {
		t.Fatalf("found %d suites in bench/suites/run, want at least 6, and this list in python/gobuild.py: %q", len(suites), list)
	}
	for name := range strings.FieldsFuncSeq(list[1], func(r rune) bool { return strings.ContainsRune(", \n\"", r) }) {
		paths, err := filepath.Glob(filepath.Join("tables", name, "*.go"))
		if err != nil || len(paths) == 0 {
			t.Errorf("python/gobuild.py: tables has no package %s (error %v)", name, err)
		}
	}
}
