package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestLongSteps checks that each pattern of go test in .ci/long matches a test of each package that the step names. go
// test succeeds if a pattern matches no test, so a renamed test would never run again.
func TestLongSteps(t *testing.T) {
	text, err := os.ReadFile(".ci/long")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, line := range regexp.MustCompile(`(?m)^\w+ +\d+ +.*$`).FindAllString(string(text), -1) {
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
			for _, word := range words[i+2:] {
				if word == "." || strings.HasPrefix(word, "./") {
					checked++
					if !hasTest(t, filepath.Join(dir, word), regexp.MustCompile(pattern)) {
						t.Errorf(".ci/long: no test in %s matches %s %s, in the step: %s", filepath.Join(dir, word), flag, pattern, line)
					}
				}
			}
		}
	}
	if checked < 50 {
		t.Errorf(".ci/long has patterns for %d packages, want at least 50", checked)
	}
}

func hasTest(t *testing.T, dir string, pattern *regexp.Regexp) bool {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func ((Test|Fuzz|Example)\w*)\(`).FindAllSubmatch(source, -1) {
			if pattern.Match(m[1]) {
				return true
			}
		}
	}
	return false
}
