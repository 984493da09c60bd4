package docs_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestExperimentalPackages checks that docs/versions.md lists the same packages as experimental as the packages'
// comments, in all modules.
func TestExperimentalPackages(t *testing.T) {
	page, err := os.ReadFile("docs/versions.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| experimental |")
	table, _, _ = strings.Cut(table, "\n\n")
	var listed, marked []string
	for _, row := range strings.Split(table, "\n")[2:] {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(strings.Split(row, "|")[1], -1) {
			listed = append(listed, name[1])
		}
	}
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{"node_modules", "testdata", ".git"}, d.Name()) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err == nil && strings.Contains(file.Doc.Text(), "\n# Experimental\n") {
			marked = append(marked, filepath.ToSlash(filepath.Dir(path)))
		}
		return err
	})
	slices.Sort(listed)
	slices.Sort(marked)
	if err != nil || len(marked) == 0 || !slices.Equal(listed, marked) {
		t.Errorf("docs/versions.md lists the experimental packages %q; the comments mark %q (%v)", listed, marked, err)
	}
}
