package docs_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// filesBelow returns the files of the repository whose paths have an ending, except those in directories with the skipped
// names.
func filesBelow(t *testing.T, ending string, skipped ...string) (paths []string) {
	t.Helper()
	skipped = append(skipped, ".git", "node_modules")
	must.Do(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains(skipped, d.Name()):
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, ending):
			paths = append(paths, filepath.ToSlash(path))
		}
		return nil
	}))
	return paths
}

// TestDocsFiles checks that files exist if a page links to them or names them.
func TestDocsFiles(t *testing.T) {
	all, texts := filesBelow(t, ""), filesBelow(t, ".md")
	if len(texts) < 20 {
		t.Fatalf("found %d pages, want at least 20", len(texts))
	}
	code := regexp.MustCompile("(?ms)^ *```.*?^ *```$|`[^`]*`")
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)\s]*)?\)`)
	named := regexp.MustCompile("`([A-Za-z0-9_/.-]+\\.(?:go|py|tsx?|sh))`")
	for _, page := range texts {
		text := must.Get(os.ReadFile(page))(t)
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(string(text), "code"), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: broken link: %v", page, err)
			}
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			matches := func(path string) bool { return strings.HasSuffix("/"+path, "/"+m[1]) }
			if m[1] != "partd/pandas.py" && !slices.ContainsFunc(all, matches) { // partd/pandas.py belongs to Python's partd
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
}

// TestUnpublishedNames checks that each line that prints a command which fetches a name of ours says that it works only after
// publication. Until then, the command could get a stranger's code.
func TestUnpublishedNames(t *testing.T) {
	fetches := regexp.MustCompile(`go (?:install|get) [^|` + "`" + `]*github\.com/go-partd|pip install [^|` + "`" + `]*partd-go`)
	for _, ending := range []string{".md", ".py", ".go"} {
		for _, file := range filesBelow(t, ending, "build", "dist", "testdata") {
			for line := range strings.Lines(readFile(t, file)) {
				if fetches.MatchString(line) && !strings.Contains(line, "publi") && !strings.HasSuffix(file, "_test.go") {
					t.Errorf("%s: this line does not say that it works only after publication: %s", file, line)
				}
			}
		}
	}
}

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

// TestWordsExplained checks that each page for users explains the words bucket and snapshot, which mean different things in
// different programs, where they first occur.
func TestWordsExplained(t *testing.T) {
	explanations := map[string]*regexp.Regexp{
		"bucket":   regexp.MustCompile(`cloud|folders? of tables|s3:`),
		"snapshot": regexp.MustCompile(`names?\b|named states?|^#`),
	}
	code := regexp.MustCompile("(?ms)^ *```.*?^ *```$|(?m)^    .*$|`[^`]*`|\\]\\([^)]*\\)")
	for _, page := range filesBelow(t, ".md") {
		dir := path.Dir(page)
		if !slices.Contains([]string{"README.md", "tables/README.md", "python/README.md"}, page) && !slices.Contains([]string{"docs", "tables/docs", "python/docs"}, dir) {
			continue
		}
		lines := strings.Split(code.ReplaceAllString(readFile(t, page), " code "), "\n")
		for word, explanation := range explanations {
			use := regexp.MustCompile(`(?i)\b` + word + `s?\b`)
			i := slices.IndexFunc(lines, use.MatchString)
			if i >= 0 && !explanation.MatchString(strings.Join(lines[max(0, i-1):min(i+3, len(lines))], " ")) {
				t.Errorf("%s: the first use of %s is not explained: %s", page, word, lines[i])
			}
		}
	}
}

// TestExperimentalPackages checks that docs/versions.md lists the same packages as experimental as the packages'
// comments, in all modules.
func TestExperimentalPackages(t *testing.T) {
	_, table, _ := strings.Cut(readFile(t, "docs/versions.md"), "| experimental |")
	table, _, _ = strings.Cut(table, "\n\n")
	var listed, marked []string
	for _, row := range strings.Split(table, "\n")[2:] {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(strings.Split(row, "|")[1], -1) {
			listed = append(listed, name[1])
		}
	}
	for _, name := range filesBelow(t, ".go", "testdata") {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file := must.Get(parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.PackageClauseOnly))(t)
		if strings.Contains(file.Doc.Text(), "\n# Experimental\n") {
			marked = append(marked, path.Dir(name))
		}
	}
	slices.Sort(listed)
	slices.Sort(marked)
	if len(marked) == 0 || !slices.Equal(listed, marked) {
		t.Errorf("docs/versions.md lists the experimental packages %q; the comments mark %q", listed, marked)
	}
}
