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

// CheckAliases fails the test for each exported alias or field of a public package whose type is in an internal
// package, because go doc shows neither the fields nor the methods of such a type. It also fails for an exported type
// that embeds an unexported generic one. exceptions lists allowed aliases with their package's path, such as
// encode.PyTuple.
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
			for _, alias := range hiddenTypes(f) {
				found = append(found, name+"."+alias)
			}
		}
	}
	for _, alias := range found {
		if !slices.Contains(exceptions, alias) {
			t.Errorf("go doc does not show the type of %s: declare a type instead of an alias to an internal package, and a field instead of an embedded generic type", alias)
		}
	}
	for _, exception := range exceptions {
		if !slices.Contains(found, exception) {
			t.Errorf("the exception %s is not an alias to a type of an internal package: remove it", exception)
		}
	}
}

// hiddenTypes returns the names of a file's exported types, and of fields, that go doc does not explain.
func hiddenTypes(f *ast.File) (names []string) {
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
			if !ok || !spec.Name.IsExported() {
				continue
			}
			if spec.Assign.IsValid() && refersTo(spec.Type, internal) {
				names = append(names, spec.Name.Name)
			}
			fields, ok := spec.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range fields.Fields.List {
				if len(f.Names) == 0 && isUnexportedGeneric(f.Type) {
					names = append(names, spec.Name.Name)
				}
				for _, n := range f.Names {
					if n.IsExported() && refersTo(f.Type, internal) {
						names = append(names, spec.Name.Name+"."+n.Name)
					}
				}
			}
		}
	}
	return names
}

// refersTo reports whether a type refers to a package in internal, by the package's name in the file.
func refersTo(t ast.Expr, internal map[string]bool) (found bool) {
	ast.Inspect(t, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			x, ok := sel.X.(*ast.Ident)
			found = found || ok && internal[x.Name]
		}
		return true
	})
	return found
}

// isUnexportedGeneric reports whether an embedded type is an unexported instance of a generic type. Go doc shows it,
// and its methods with a wrong receiver.
func isUnexportedGeneric(t ast.Expr) bool {
	switch g := t.(type) {
	case *ast.IndexExpr:
		t = g.X
	case *ast.IndexListExpr:
		t = g.X
	default:
		return false
	}
	name, ok := t.(*ast.Ident)
	return ok && !name.IsExported()
}
