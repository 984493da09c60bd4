package layering

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// CheckAliases fails the test for each exported alias of a public package to a type of an internal package, because
// go doc shows neither the fields nor the methods of such a type. exceptions lists allowed aliases with their package's
// path, such as encode.PyTuple.
func (l *Layering) CheckAliases(t *testing.T, exceptions ...string) {
	var found []string
	for _, p := range l.list(t, "linux") {
		name, _ := l.relPath(p.ImportPath)
		if slices.ContainsFunc(strings.Split(name, "/"), func(dir string) bool { return dir == "internal" || dir == "cmd" }) {
			continue
		}
		for _, file := range slices.Concat(p.GoFiles, p.CgoFiles) {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, alias := range internalAliases(f) {
				found = append(found, name+"."+alias)
			}
		}
	}
	for _, alias := range found {
		if !slices.Contains(exceptions, alias) {
			t.Errorf("%s is an alias to a type of an internal package: declare the type, and convert it", alias)
		}
	}
	for _, exception := range exceptions {
		if !slices.Contains(found, exception) {
			t.Errorf("the exception %s is not an alias to a type of an internal package: remove it", exception)
		}
	}
}

// internalAliases returns the names of a file's exported aliases to types of internal packages.
func internalAliases(f *ast.File) (aliases []string) {
	internal := map[string]bool{} // names under which the file imports internal packages
	for _, i := range f.Imports {
		importPath, _ := strconv.Unquote(i.Path.Value)
		name := path.Base(importPath)
		if i.Name != nil {
			name = i.Name.Name
		}
		internal[name] = strings.Contains(importPath, "/internal/")
	}
	for _, d := range f.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range decl.Specs {
			spec, ok := s.(*ast.TypeSpec)
			if !ok || !spec.Assign.IsValid() || !spec.Name.IsExported() {
				continue
			}
			ast.Inspect(spec.Type, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := sel.X.(*ast.Ident); ok && internal[x.Name] {
						aliases = append(aliases, spec.Name.Name)
					}
				}
				return true
			})
		}
	}
	return aliases
}
