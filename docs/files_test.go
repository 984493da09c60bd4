package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestDocsFiles checks that files exist if a page links to them or names them.
func TestDocsFiles(t *testing.T) {
	var all, texts []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if d.IsDir() && slices.Contains([]string{".git", "node_modules"}, d.Name()) {
			return filepath.SkipDir
		}
		all = append(all, "/"+filepath.ToSlash(path))
		if strings.HasSuffix(path, ".md") {
			texts = append(texts, path)
		}
		return err
	})
	if err != nil || len(texts) < 20 {
		t.Fatalf("found %d pages, error %v, want at least 20 pages", len(texts), err)
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
			matches := func(path string) bool { return strings.HasSuffix(path, "/"+m[1]) }
			if m[1] != "partd/pandas.py" && !slices.ContainsFunc(all, matches) { // partd/pandas.py belongs to Python's partd
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
}
