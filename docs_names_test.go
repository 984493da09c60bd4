package partd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	command  = regexp.MustCompile("(?m)(?:^|`)(partd|partd-server)((?: [a-z]+)?)( [^`\n]*)")
	flagName = regexp.MustCompile(`--[a-z][a-z-]*`)
	folder   = regexp.MustCompile(`\bgo (?:run|test|install)\b[^\n` + "`" + `]* \./([a-z][\w/-]*)`)
	pageLink = regexp.MustCompile(`\]\(([\w./-]+\.[a-z]+)(?:#[\w-]*)?\)`)
	variable = regexp.MustCompile(`PARTD_[A-Z0-9_]+`)
)

// checkNames looks at what is not run, in a text or a line: it has to name commands,
// flags, variables, folders and pages that there are.
func checkNames(t *testing.T, programs string) {
	t.Helper()
	helps := map[string]string{}
	help := func(program, subcommand string) string {
		key := program + subcommand
		if _, known := helps[key]; !known {
			out, err := exec.Command(filepath.Join(programs, program), append(strings.Fields(subcommand), "--help")...).CombinedOutput()
			if err != nil {
				t.Errorf("%s --help: %v", key, err)
			}
			helps[key] = string(out)
		}
		return helps[key]
	}
	inPages := map[string]bool{}
	for _, page := range pages(t) {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range command.FindAllStringSubmatch(string(data), -1) {
			for _, name := range flagName.FindAllString(m[3], -1) {
				if !strings.Contains(help(m[1], m[2]), name+" ") {
					t.Errorf("%s: %s%s has no flag %s", page, m[1], m[2], name)
				}
			}
		}
		for _, m := range folder.FindAllStringSubmatch(string(data), -1) {
			if _, err := os.Stat(m[1]); err != nil {
				t.Errorf("%s: %s: %v", page, m[0], err)
			}
		}
		for _, m := range pageLink.FindAllStringSubmatch(string(data), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: a link leads nowhere: %v", page, err)
			}
		}
		if page == "docs/cli.md" || page == "docs/operations.md" { // others name variables of tests
			for _, name := range variable.FindAllString(string(data), -1) {
				inPages[name] = true
			}
		}
	}
	all := help("partd-server", "")
	for _, name := range regexp.MustCompile(`(?m)^  ([a-z]+)  `).FindAllStringSubmatch(help("partd", ""), -1) {
		all += help("partd", " "+name[1])
		for _, v := range variable.FindAllString(help("partd", " "+name[1]), -1) {
			if !inPages[v] {
				t.Errorf("%s of partd %s is on no page", v, name[1])
			}
		}
	}
	for name := range inPages {
		if name != "PARTD_SERVER_" && !strings.Contains(all, "$"+name+"]") {
			t.Errorf("no command has the variable %s", name)
		}
	}
}
