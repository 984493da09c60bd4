// Package layering checks a module's imports in tests, and lists the module's packages by layer.
package layering

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Layering lists the layers of a module, top first. A package may import the standard library, the
// modules in Shared, packages in lower layers and, in a family, packages of the same layer. The package's
// entry in Layer.Packages lists exceptions: other modules and packages of the same layer that it may import too.
type Layering struct {
	Module        string
	Root          string   // name of the module's root package in the table
	Shared        []string // modules that every package may import
	Layers        []Layer
	MayUseTesting []string // packages that may import package testing outside of tests
	Cgo           bool     // list the packages with cgo enabled
}

// Layer is a named set of packages.
type Layer struct {
	Name     string
	Family   bool                // packages in one directory, which may import each other
	Packages map[string][]string // exceptions, by the package's path within the module ("." is the root)
}

// Package holds the fields of go list's output that this package uses.
type Package struct {
	ImportPath string
	Dir        string
	Doc        string // first sentence of the package comment
	GoFiles    []string
	CgoFiles   []string
	Imports    []string
}

// layerOf returns the index of the layer that lists a package, or -1. The top layer has index 0.
func (l *Layering) layerOf(name string) int {
	return slices.IndexFunc(l.Layers, func(layer Layer) bool {
		_, listed := layer.Packages[name]
		return listed
	})
}

// relPath returns a package's path within the module ("." for the root), or false if it is outside.
func (l *Layering) relPath(importPath string) (string, bool) {
	if importPath == l.Module {
		return ".", true
	}
	return strings.CutPrefix(importPath, l.Module+"/")
}

func (l *Layering) list(t *testing.T, goos string) []Package {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,GoFiles,CgoFiles,Imports", "./...")
	cgo := "0"
	if l.Cgo {
		cgo = "1"
	}
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH=amd64", "CGO_ENABLED="+cgo)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, stderr.String())
	}
	var packages []Package
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p Package
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("%v: %v", cmd, err)
		}
		if len(p.GoFiles)+len(p.CgoFiles) > 0 {
			packages = append(packages, p)
		}
	}
}

// CheckImports fails the test for each import that breaks the layering, on Linux and macOS.
func (l *Layering) CheckImports(t *testing.T) {
	for _, goos := range []string{"linux", "darwin"} {
		exists := map[string]bool{}
		for _, p := range l.list(t, goos) {
			name, _ := l.relPath(p.ImportPath)
			exists[name] = true
			for _, message := range l.WrongImports(p) {
				t.Errorf("%s: %s", goos, message)
			}
		}
		for _, layer := range l.Layers {
			for name := range layer.Packages {
				if !exists[name] {
					t.Errorf("%s: layer %q lists %q, which does not exist", goos, layer.Name, name)
				}
			}
		}
	}
}

// WrongImports returns a message for each import of p that breaks the layering.
func (l *Layering) WrongImports(p Package) (wrong []string) {
	name, _ := l.relPath(p.ImportPath)
	index := l.layerOf(name)
	if index < 0 {
		return []string{fmt.Sprintf("package %s has no layer: add it to the Layering in house_test.go", p.ImportPath)}
	}
	allowed := l.Layers[index].Packages[name]
	contains := func(path string) func(string) bool {
		return func(module string) bool { return path == module || strings.HasPrefix(path, module+"/") }
	}
	for _, path := range p.Imports {
		relative, isOwn := l.relPath(path)
		root, _, _ := strings.Cut(path, "/")
		switch {
		case isOwn:
			if i := l.layerOf(relative); i < index || i == index && !l.Layers[i].Family && !slices.Contains(allowed, relative) {
				wrong = append(wrong, fmt.Sprintf("package %s imports %s, which is not in a layer below %q", p.ImportPath, path, l.Layers[index].Name))
			}
		case root == "testing":
			if !slices.Contains(l.MayUseTesting, name) {
				wrong = append(wrong, fmt.Sprintf("package %s imports %s outside of tests", p.ImportPath, path))
			}
		case !strings.Contains(root, "."), slices.ContainsFunc(l.Shared, contains(path)): // standard library or shared
		case !slices.ContainsFunc(allowed, contains(path)):
			wrong = append(wrong, fmt.Sprintf("package %s imports %s; the other modules that it may import are %q", p.ImportPath, path, allowed))
		}
	}
	return wrong
}
