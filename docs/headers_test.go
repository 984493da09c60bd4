package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestHeaders checks that no header of an if or switch statement in the product changes state: it may only declare
// variables.
func TestHeaders(t *testing.T) {
	skipped := []string{".git", "testdata", "testutil", "bench", "node_modules", "examples"}
	checked := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(skipped, entry.Name()):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		checked++
		for _, position := range changingHeaders(t, path, nil) {
			t.Errorf("%s: the header changes state: move the statement to a line of its own, before the header", position)
		}
		return nil
	})
	if err != nil || checked < 500 {
		t.Errorf("checked %d files, want at least 500: %v", checked, err)
	}
	wrong := "package p\nfunc f() {\n\tif err = g(); err != nil {\n\t}\n\tswitch n++; n {\n\t}\n\tif err := g(); err != nil {\n\t}\n}"
	if found := changingHeaders(t, "wrong.go", wrong); len(found) != 2 {
		t.Errorf("found %v in an example with two headers that change state", found)
	}
}

// changingHeaders returns the positions of headers that change state. src is nil for the content of the file.
func changingHeaders(t *testing.T, path string, src any) (found []token.Position) {
	files := token.NewFileSet()
	file := must.Get(parser.ParseFile(files, path, src, 0))(t)
	ast.Inspect(file, func(node ast.Node) bool {
		var init ast.Stmt
		switch statement := node.(type) {
		case *ast.IfStmt:
			init = statement.Init
		case *ast.SwitchStmt:
			init = statement.Init
		}
		assign, ok := init.(*ast.AssignStmt)
		if init != nil && (!ok || assign.Tok != token.DEFINE) {
			found = append(found, files.Position(init.Pos()))
		}
		return true
	})
	return found
}
