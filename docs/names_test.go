package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

var (
	command  = regexp.MustCompile("(?m)(?:^|`)(partd|partd-server)((?: token [a-z]+| [a-z]+)?)( [^`\n]*)")
	flagName = regexp.MustCompile(`--[a-z][a-z-]*`)
	folder   = regexp.MustCompile(`\bgo (?:run|test|install)\b(?: -C (\w+))?[^\n` + "`" + `]* \./([a-z][\w/-]*)`)
	pageLink = regexp.MustCompile(`(?:\]\(|<(?:img|source) [^>]*src(?:set)?=")([\w./-]+\.[a-z]+)(?:#[\w-]*)?[)"]`)
)

// checkNames checks that the flags, folders and pages that the docs name exist, even in text that no
// test runs.
func checkNames(t *testing.T, programs string) {
	t.Helper()
	helpTexts := map[string]string{}
	help := func(program, subcommand string) string {
		key := program + subcommand
		if _, known := helpTexts[key]; !known {
			out, err := exec.Command(filepath.Join(programs, program), append(strings.Fields(subcommand), "--help")...).CombinedOutput()
			if err != nil {
				t.Errorf("%s --help: %v", key, err)
			}
			helpTexts[key] = string(out)
		}
		return helpTexts[key]
	}
	for _, page := range append(docPages(t), "CONTRIBUTING.md") {
		data := must.Get(os.ReadFile(page))(t)
		for _, m := range command.FindAllStringSubmatch(string(data), -1) {
			for _, name := range flagName.FindAllString(m[3], -1) {
				if !strings.Contains(help(m[1], m[2]), name+" ") {
					t.Errorf("%s: %s%s has no flag %s", page, m[1], m[2], name)
				}
			}
		}
		for _, m := range folder.FindAllStringSubmatch(string(data), -1) {
			if _, err := os.Stat(filepath.Join(m[1], m[2])); err != nil {
				t.Errorf("%s: %s: %v", page, m[0], err)
			}
		}
		for _, m := range pageLink.FindAllStringSubmatch(string(data), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: broken link: %v", page, err)
			}
		}
	}
}
