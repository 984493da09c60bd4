// Package house keeps the packages of a module on their floors, for tests, and lists them.
package house

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

// House has the floor of every package of a module, from the roof down, and what each may
// import beside the standard library, the modules below and the floors below its own:
// other modules, and, of its own floor, what it names. An arrow never runs up.
type House struct {
	Module        string
	Root          string   // the label of the package at the module's root
	Below         []string // modules that every package may import
	Floors        []Floor
	MayUseTesting []string // packages that may import package testing outside of tests
	Cgo           bool     // packages are listed as they are with C
}

// A Floor is a name and its packages, by their path within the module ("." is the root).
type Floor struct {
	Name     string
	Packages map[string][]string
}

// Package is what go list says of a package.
type Package struct {
	ImportPath string
	Doc        string // its first sentence
	GoFiles    []string
	CgoFiles   []string
	Imports    []string
}

// floorOf returns the number of a package's floor, 0 at the top, and -1 where it has none.
func (h *House) floorOf(name string) int {
	return slices.IndexFunc(h.Floors, func(f Floor) bool {
		_, found := f.Packages[name]
		return found
	})
}

// within returns a package's path within the module, "." for the root, and whether it is
// in the module.
func (h *House) within(importPath string) (string, bool) {
	if importPath == h.Module {
		return ".", true
	}
	return strings.CutPrefix(importPath, h.Module+"/")
}

// list returns the module's packages that are more than tests.
func (h *House) list(t *testing.T, goos string) []Package {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,GoFiles,CgoFiles,Imports", "./...")
	cgo := "0"
	if h.Cgo {
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

// CheckImports fails the test for each arrow that should not be, on each system that the
// module is for.
func (h *House) CheckImports(t *testing.T) {
	for _, goos := range []string{"linux", "darwin"} {
		seen := map[string]bool{}
		for _, p := range h.list(t, goos) {
			name, _ := h.within(p.ImportPath)
			seen[name] = true
			for _, wrong := range h.WrongImports(p) {
				t.Errorf("%s: %s", goos, wrong)
			}
		}
		for _, floor := range h.Floors {
			for name := range floor.Packages {
				if !seen[name] {
					t.Errorf("%s: %q is on the floor %q, and there is no such package", goos, name, floor.Name)
				}
			}
		}
	}
}

// WrongImports says what a package imports and should not.
func (h *House) WrongImports(p Package) (wrong []string) {
	name, _ := h.within(p.ImportPath)
	at := h.floorOf(name)
	if at < 0 {
		return []string{fmt.Sprintf("package %s has no floor in the table house yet", p.ImportPath)}
	}
	allowed := h.Floors[at].Packages[name]
	is := func(path string) func(string) bool {
		return func(module string) bool { return path == module || strings.HasPrefix(path, module+"/") }
	}
	for _, path := range p.Imports {
		own, ours := h.within(path)
		first, _, _ := strings.Cut(path, "/")
		switch {
		case ours:
			if to := h.floorOf(own); to < at || to == at && !slices.Contains(allowed, own) {
				wrong = append(wrong, fmt.Sprintf("package %s imports %s, which is not on a floor below %q", p.ImportPath, path, h.Floors[at].Name))
			}
		case first == "testing":
			if !slices.Contains(h.MayUseTesting, name) {
				wrong = append(wrong, fmt.Sprintf("package %s imports %s outside of tests", p.ImportPath, path))
			}
		case !strings.Contains(first, "."), slices.ContainsFunc(h.Below, is(path)): // the standard library, or below
		case !slices.ContainsFunc(allowed, is(path)):
			wrong = append(wrong, fmt.Sprintf("package %s imports %s, and may import of other modules only %q", p.ImportPath, path, allowed))
		}
	}
	return wrong
}
