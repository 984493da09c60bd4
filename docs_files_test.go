package partd_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Pages name files of the project that are there.
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
		t.Fatal(len(texts), err)
	}
	named := regexp.MustCompile("`([A-Za-z0-9_/.-]+\\.(?:go|py|tsx?|sh))`")
	for _, page := range texts {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			is := func(path string) bool { return strings.HasSuffix(path, "/"+m[1]) }
			if m[1] != "partd/pandas.py" && !slices.ContainsFunc(all, is) { // which is Python's partd's
				t.Errorf("%s names %s, which is not there", page, m[1])
			}
		}
	}
}
