package partd_test

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

const module = "github.com/go-partd/partd"

// house has the floor of every package of the module, from the roof down, and
// what each may import beside the standard library and the floors below its own:
// other modules, and, of its own floor, what it names. An arrow never runs up. A
// new package gets its floor here, on purpose: one above all that it imports.
//
// After a change, "go test -run TestHouse . -update" draws docs/house.svg and
// writes the table of packages in docs/design.md again.
var house = []floor{
	{"for tests", map[string][]string{ // on the roof, so that no package can import them
		"partdtest":                     {"pgregory.net/rapid"},
		"internal/csvgen":               nil,
		"internal/testutil/attempttest": nil,
		"internal/testutil/cutproxy":    nil,
		"internal/testutil/gateway":     nil,
		"internal/testutil/hostile":     nil,
		"internal/testutil/postgres":    nil,
		"internal/testutil/race":        nil,
		"internal/testutil/serverproc":  nil,
		"internal/testutil/testcert":    nil,
		"internal/vfs/vfstest":          nil,
		"internal/vfs/disktest":         {"golang.org/x/sys"},
	}},
	{"commands", map[string][]string{
		"cmd/partd":          nil,
		"cmd/partd-server":   nil,
		"examples/wordcount": nil,
		"examples/tasks":     nil,
	}},
	{"command lines", map[string][]string{
		"internal/cliutil/sizeflag": nil,
		"internal/cli":              {"internal/cliutil/sizeflag", "github.com/dustin/go-humanize", "github.com/zeebo/xxh3", "github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/term"},
		"internal/servercli":        {"internal/cliutil/sizeflag", "github.com/spf13/cobra", "github.com/spf13/pflag"},
	}},
	{"jobs on files", map[string][]string{
		"internal/filejobs": {"github.com/dustin/go-humanize"},
	}},
	{"over stores", map[string][]string{
		"stores":              {"github.com/dustin/go-humanize"},
		"shuffle":             {"github.com/zeebo/xxh3"},
		"internal/output":     nil,
		"internal/namespaces": nil,
		"internal/tokens":     {"github.com/gofrs/flock"},
		"internal/zfile":      {"github.com/klauspost/compress", "github.com/pierrec/lz4", "github.com/dsnet/compress"},
	}},
	{"stores, layers, engines", map[string][]string{
		"logstore":           {"github.com/zeebo/xxh3", "github.com/klauspost/compress"},
		"remote":             nil,
		"shards":             {"github.com/zeebo/xxh3"},
		"compress":           {"github.com/golang/snappy", "github.com/klauspost/compress", "github.com/pierrec/lz4", "github.com/dsnet/compress"},
		"encode":             {"github.com/ugorji/go/codec"},
		"internal/extsort":   {"github.com/zeebo/xxh3", "github.com/klauspost/compress"},
		"internal/hashagg":   {"github.com/zeebo/xxh3"},
		"internal/mergejoin": {"internal/extsort"},
		"internal/records":   nil,
	}},
	{"runs and segments", map[string][]string{
		"internal/segment": {"github.com/zeebo/xxh3", "github.com/klauspost/compress"},
		"internal/spill":   nil,
	}},
	{"the root", map[string][]string{
		".": {"github.com/gofrs/flock"},
	}},
	{"below the root", map[string][]string{
		"internal/aggregate":  nil,
		"internal/cliutil":    {"github.com/spf13/cobra", "github.com/spf13/pflag"},
		"internal/filedir":    {"internal/sessiontab"},
		"internal/keymap":     nil,
		"internal/msgpack":    {"github.com/tinylib/msgp"},
		"internal/pickle":     nil,
		"internal/sessiontab": nil,
		"internal/tempdir":    nil,
	}},
	{"the ground", map[string][]string{
		"frame":                 nil,
		"internal/adminhttp":    nil,
		"internal/certfiles":    nil,
		"internal/guesses":      nil,
		"compress/blosc":        {"github.com/golang/snappy", "github.com/klauspost/compress", "github.com/pierrec/lz4"},
		"internal/filedir/boot": nil,
		"internal/ledger":       {"github.com/zeebo/xxh3"},
		"internal/storeerror":   nil,
		"internal/textfmt":      {"github.com/dustin/go-humanize"},
		"internal/metrics":      nil,
		"internal/names":        nil,
		"internal/nearest":      nil,
		"internal/npy":          nil,
		"internal/offheap":      {"golang.org/x/sys"},
		"internal/pyvalue":      nil,
		"internal/progress":     {"golang.org/x/term"},
		"internal/slab":         nil,
		"internal/space":        {"github.com/dustin/go-humanize"},
		"internal/vfs":          {"github.com/gofrs/flock"},
		"internal/zmtp":         nil,
	}},
}

// A floor is a name and its packages, by their path within the module ("." is the root).
type floor struct {
	name     string
	packages map[string][]string
}

// floorOf returns the number of a package's floor in house, 0 at the top, and -1
// where it has none.
func floorOf(name string) int {
	return slices.IndexFunc(house, func(f floor) bool {
		_, found := f.packages[name]
		return found
	})
}

// mayUseTesting are the packages that may import package testing outside of
// tests, which adds flags to every program that has it.
var mayUseTesting = []string{"partdtest", "internal/testutil/attempttest", "internal/vfs/disktest"}

// goPackage is what go list tells of a package.
type goPackage struct {
	ImportPath string
	Doc        string // its first sentence
	GoFiles    []string
	Imports    []string
}

// TestImports keeps the arrows between packages as they are meant, on each
// system that the module is for.
func TestImports(t *testing.T) {
	for _, goos := range []string{"linux", "darwin"} {
		seen := map[string]bool{}
		for _, p := range listPackages(t, goos) {
			name, _ := within(p.ImportPath)
			seen[name] = true
			for _, wrong := range wrongImports(p) {
				t.Errorf("%s: %s", goos, wrong)
			}
		}
		for _, floor := range house {
			for name := range floor.packages {
				if !seen[name] {
					t.Errorf("%s: %q is on the floor %q, and there is no such package", goos, name, floor.name)
				}
			}
		}
	}
}

// listPackages returns the module's packages that are more than tests.
func listPackages(t *testing.T, goos string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,GoFiles,Imports", "./...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, stderr.String())
	}
	var packages []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("%v: %v", cmd, err)
		}
		if len(p.GoFiles) > 0 {
			packages = append(packages, p)
		}
	}
}

// within returns a package's path within the module, "." for the root, and
// whether it is in the module.
func within(importPath string) (string, bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// wrongImports says what a package imports and should not.
func wrongImports(p goPackage) (wrong []string) {
	name, _ := within(p.ImportPath)
	at := floorOf(name)
	if at < 0 {
		return []string{fmt.Sprintf("package %s has no floor in the table house yet", p.ImportPath)}
	}
	allowed := house[at].packages[name]
	for _, path := range p.Imports {
		own, ours := within(path)
		first, _, _ := strings.Cut(path, "/")
		switch {
		case ours:
			if to := floorOf(own); to < at || to == at && !slices.Contains(allowed, own) {
				wrong = append(wrong, fmt.Sprintf("package %s imports %s, which is not on a floor below %q", p.ImportPath, path, house[at].name))
			}
		case first == "testing":
			if !slices.Contains(mayUseTesting, name) {
				wrong = append(wrong, fmt.Sprintf("package %s imports %s outside of tests", p.ImportPath, path))
			}
		case !strings.Contains(first, "."): // the standard library
		case !slices.ContainsFunc(allowed, func(a string) bool { return path == a || strings.HasPrefix(path, a+"/") }):
			wrong = append(wrong, fmt.Sprintf("package %s imports %s, and may import of other modules only %q", p.ImportPath, path, allowed))
		}
	}
	return wrong
}

// The module of tables is no part of the workspace, in which the versions of all
// modules join: the root's programs are the same bytes with it and without.
func TestTablesAreApart(t *testing.T) {
	for name, want := range map[string]bool{"go.work": false, "go.mod": false, "bench/go.mod": false, "objstore/go.mod": false, "tables/go.mod": true} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "./tables") || strings.Contains(string(text), module+"/tables") != want {
			t.Errorf("%s: named in it: %v, want %v", name, !want, want)
		}
	}
}

func TestWrongImportsAreFound(t *testing.T) {
	for _, c := range []struct {
		name, imports string
		wrong         int
	}{
		{"", "os io/fs github.com/gofrs/flock github.com/go-partd/partd/internal/vfs", 0},
		{"", "github.com/go-partd/partd/stores", 1},
		{"", "github.com/spf13/cobra github.com/gofrs/flockery", 2},
		{"/frame", "io github.com/go-partd/partd", 1},
		{"/stores", "testing github.com/go-partd/partd/partdtest", 2},
		{"/partdtest", "testing testing/iotest pgregory.net/rapid", 0},
		{"/internal/vfs", "github.com/go-partd/partd", 1},
		{"/internal/vfs", "github.com/go-partd/partd/internal/offheap", 1}, // on the same floor
		{"/internal/slab", "testing/iotest github.com/go-partd/partd/internal/keymap golang.org/x/term", 3},
		{"/internal/new", "os", 1},
		{"/internal/cli", module + "/tables/filter " + module + "/internal/new", 2},
	} {
		p := goPackage{ImportPath: module + c.name, Imports: strings.Fields(c.imports)}
		if wrong := wrongImports(p); len(wrong) != c.wrong {
			t.Errorf("%s imports %s: found %q", p.ImportPath, c.imports, wrong)
		}
	}
}
