package house

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// CheckTable compares the table of packages in docs/design.md with the imports and the
// packages' own documentation, from which it is made, and made again with update.
func (h *House) CheckTable(t *testing.T, update bool) {
	packages := map[string]Package{}
	for _, p := range h.list(t, "linux") {
		name, _ := h.within(p.ImportPath)
		if h.floorOf(name) < 0 {
			t.Fatalf("package %s has no floor in the table house yet", p.ImportPath)
		}
		packages[name] = p
	}
	const begin, end = "| floor | package | what it does | and imports |\n|---|---|---|---|\n", "\n\n"
	design, err := os.ReadFile("docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	before, after, found := strings.Cut(string(design), begin)
	_, after, ended := strings.Cut(after, end)
	if !found || !ended {
		t.Fatalf("docs/design.md has no table that begins with %q", begin)
	}
	made := before + begin + h.table(packages) + end + after
	if update {
		err = os.WriteFile("docs/design.md", []byte(made), 0o666)
	} else if string(design) != made {
		err = errors.New("docs/design.md is not what the packages are: go test -run TestHouse . -update")
	}
	if err != nil {
		t.Error(err)
	}
}

// table is the rows of the table: floor, package, and the first sentence of
// its documentation up to a colon, without the two words that say its name, and
// its imports.
func (h *House) table(packages map[string]Package) string {
	var rows []string
	for _, f := range h.Floors {
		first := f.Name
		for _, name := range slices.Sorted(maps.Keys(f.Packages)) {
			p, found := packages[name]
			if !found {
				continue
			}
			sentence, _, _ := strings.Cut(strings.TrimSuffix(p.Doc, "."), ":")
			words := strings.SplitN(sentence, " ", 3)
			subject := strings.NewReplacer("[", "", "]", "").Replace(words[len(words)-1])
			var below []string
			for _, other := range h.imported(name, packages) {
				below = append(below, "`"+h.label(other)+"`")
			}
			rows = append(rows, fmt.Sprintf("| %s | `%s` | %s | %s |", first, h.label(name), subject, strings.Join(below, ", ")))
			first = ""
		}
	}
	return strings.Join(rows, "\n")
}

// imported returns what a package imports of the module, without what one of
// these imports already, directly or not.
func (h *House) imported(name string, packages map[string]Package) (direct []string) {
	all := func(name string) (names []string) {
		for _, path := range packages[name].Imports {
			if own, ours := h.within(path); ours {
				names = append(names, own)
			}
		}
		return names
	}
	var reaches func(from, to string) bool
	reaches = func(from, to string) bool {
		return slices.ContainsFunc(all(from), func(next string) bool { return next == to || reaches(next, to) })
	}
	return slices.DeleteFunc(all(name), func(to string) bool {
		return slices.ContainsFunc(all(name), func(via string) bool { return reaches(via, to) })
	})
}

func (h *House) label(name string) string {
	if name == "." {
		return h.Root
	}
	return name
}
