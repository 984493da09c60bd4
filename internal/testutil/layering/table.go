package layering

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// CheckTable compares the table of packages in the page with the packages' imports and comments. If
// update is true, it rewrites the table instead.
func (l *Layering) CheckTable(t *testing.T, page string, update bool) {
	packages := map[string]Package{}
	for _, p := range l.list(t, "linux") {
		name, _ := l.relPath(p.ImportPath)
		if l.layerOf(name) < 0 {
			t.Fatalf("package %s has no layer: add it to the Layering in house_test.go", p.ImportPath)
		}
		packages[name] = p
	}
	const begin, end = "| layer | package | what it does | and imports |\n|---|---|---|---|\n", "\n\n"
	design, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, after, hasBegin := strings.Cut(string(design), begin)
	_, after, hasEnd := strings.Cut(after, end)
	if !hasBegin || !hasEnd {
		t.Fatalf("%s has no table that begins with %q", page, begin)
	}
	want := before + begin + l.table(packages) + end + after
	if update {
		err = os.WriteFile(page, []byte(want), 0o666)
	} else if string(design) != want {
		err = fmt.Errorf("the table in %s does not match the packages: run TestHouse with -update", page)
	}
	if err != nil {
		t.Error(err)
	}
}

// table returns the rows of the table: layer, package, description and imports. The
// description is the first sentence of the package comment, up to a colon, without the
// leading words "Package name".
func (l *Layering) table(packages map[string]Package) string {
	var rows []string
	for _, layer := range l.Layers {
		label := layer.Name
		for _, name := range slices.Sorted(maps.Keys(layer.Packages)) {
			p, listed := packages[name]
			if !listed {
				continue
			}
			sentence, _, _ := strings.Cut(strings.TrimSuffix(p.Doc, "."), ":")
			words := strings.SplitN(sentence, " ", 3)
			description := strings.NewReplacer("[", "", "]", "").Replace(words[len(words)-1])
			var imports []string
			for _, other := range l.imported(name, packages) {
				imports = append(imports, "`"+l.label(other)+"`")
			}
			rows = append(rows, fmt.Sprintf("| %s | `%s` | %s | %s |", label, l.label(name), description, strings.Join(imports, ", ")))
			label = ""
		}
	}
	return strings.Join(rows, "\n")
}

// imported returns a package's direct imports in the module, unless they are also indirect imports.
func (l *Layering) imported(name string, packages map[string]Package) (direct []string) {
	importsOf := func(name string) (names []string) {
		for _, path := range packages[name].Imports {
			if own, isOwn := l.relPath(path); isOwn {
				names = append(names, own)
			}
		}
		return names
	}
	var reaches func(from, candidate string) bool
	reaches = func(from, candidate string) bool {
		return slices.ContainsFunc(importsOf(from), func(next string) bool { return next == candidate || reaches(next, candidate) })
	}
	return slices.DeleteFunc(importsOf(name), func(candidate string) bool {
		return slices.ContainsFunc(importsOf(name), func(pkg string) bool { return reaches(pkg, candidate) })
	})
}

func (l *Layering) label(name string) string {
	if name == "." {
		return l.Root
	}
	return name
}
