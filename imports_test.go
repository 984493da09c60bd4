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

// allowedImports says what each package may import besides the standard
// library: of this module by path within it ("." is the root), of others by
// module. A name that ends in "/" stands for all beneath it. Arrows go down
// only: commands, stores, layers and engines, the root, internal.
//
// A package under internal/ that is not listed may import others there. Every
// other package must be listed: a new one gets its place here, on purpose.
var allowedImports = map[string][]string{
	".":              {"internal/", "github.com/gofrs/flock"},
	"frame":          {},
	"encode":         {".", "frame", "internal/", "github.com/ugorji/go/codec"},
	"compress":       {".", "frame", "compress/blosc", "github.com/golang/snappy", "github.com/klauspost/compress", "github.com/pierrec/lz4", "github.com/dsnet/compress"},
	"compress/blosc": {"github.com/golang/snappy", "github.com/klauspost/compress", "github.com/pierrec/lz4"},
	"logstore":       {".", "internal/offheap", "internal/segment", "internal/sessiontab", "internal/tempdir", "internal/vfs", "github.com/zeebo/xxh3", "github.com/klauspost/compress"},
	"remote":         {".", "internal/zmtp"},
	"stores":         {".", "logstore", "remote", "compress", "compress/blosc", "internal/", "github.com/dustin/go-humanize"},
	"shuffle":        {".", "logstore", "internal/", "github.com/zeebo/xxh3"},
	"partdtest":      {".", "pgregory.net/rapid"},

	"cmd/partd":          {"internal/cli"},
	"cmd/partd-server":   {"internal/servercli"},
	"examples/wordcount": {".", "remote"},
	"examples/dask":      {}, // the example is in Python

	"internal/compressed": {"github.com/klauspost/compress", "github.com/pierrec/lz4", "github.com/dsnet/compress"},
	"internal/output":     {"internal/"},
	"internal/vfs":        {"github.com/gofrs/flock"},
	"internal/offheap":    {"golang.org/x/sys"},
	"internal/segment":    {".", "github.com/zeebo/xxh3", "github.com/klauspost/compress"},
	"internal/extsort":    {".", "internal/", "github.com/zeebo/xxh3", "github.com/klauspost/compress"},
	"internal/hashagg":    {".", "internal/", "github.com/zeebo/xxh3"},
	"internal/msgpack":    {"internal/", "github.com/tinylib/msgp"},
	"internal/progress":   {"internal/", "golang.org/x/term"},
	"internal/records":    {".", "internal/"},
	"internal/zmtp":       {"github.com/go-zeromq/zmq4"},
	"internal/cliutil":    {"internal/progress", "github.com/spf13/cobra", "github.com/spf13/pflag"},
	"internal/servercli":  {".", "stores", "remote", "internal/cliutil", "github.com/spf13/cobra", "github.com/spf13/pflag"},
	"internal/cli":        {".", "stores", "logstore", "internal/", "github.com/zeebo/xxh3", "github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/term"},

	"internal/vfs/disktest": {"internal/vfs", "golang.org/x/sys"},
}

// mayUseTesting are the packages that may import package testing outside of
// tests, which adds flags to every program that has it.
var mayUseTesting = []string{"partdtest", "internal/vfs/disktest"}

// goPackage is what go list tells of a package.
type goPackage struct {
	ImportPath string
	Imports    []string
}

// TestImports keeps the arrows between packages as they are meant, on each
// system that the module is for.
func TestImports(t *testing.T) {
	for _, goos := range []string{"linux", "darwin"} {
		packages := listPackages(t, goos)
		if !slices.ContainsFunc(packages, func(p goPackage) bool { return p.ImportPath == module+"/internal/vfs" }) {
			t.Fatalf("go list for %s finds %d packages, without internal/vfs", goos, len(packages))
		}
		for _, p := range packages {
			for _, wrong := range wrongImports(p) {
				t.Errorf("%s: %s", goos, wrong)
			}
		}
	}
}

func listPackages(t *testing.T, goos string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
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
		packages = append(packages, p)
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

// wrongImports tells what a package imports and should not.
func wrongImports(p goPackage) []string {
	name, _ := within(p.ImportPath)
	allowed, listed := allowedImports[name]
	if !listed {
		if !strings.HasPrefix(name, "internal/") {
			return []string{fmt.Sprintf("package %s has no place in allowedImports yet", p.ImportPath)}
		}
		allowed = []string{"internal/"}
	}
	var wrong []string
	for _, path := range p.Imports {
		own, ours := within(path)
		first, _, _ := strings.Cut(path, "/")
		switch {
		case ours:
			path = own
		case first == "testing" && !slices.Contains(mayUseTesting, name):
			wrong = append(wrong, fmt.Sprintf("package %s imports %s outside of tests", p.ImportPath, path))
			continue
		case !strings.Contains(first, "."):
			continue // the standard library
		}
		if !slices.ContainsFunc(allowed, func(a string) bool { return covers(a, path, ours) }) {
			wrong = append(wrong, fmt.Sprintf("package %s imports %s, and may import only the standard library and %q", p.ImportPath, path, allowed))
		}
	}
	return wrong
}

// covers tells whether an entry of allowedImports allows an import.
func covers(allowed, path string, ours bool) bool {
	if strings.HasSuffix(allowed, "/") {
		return ours && strings.HasPrefix(path, allowed)
	}
	return path == allowed || !ours && strings.HasPrefix(path, allowed+"/")
}

// The module of tables is no part of the workspace, in which the versions of all
// modules join: the root's programs are the same bytes with it and without.
func TestTablesAreApart(t *testing.T) {
	for name, want := range map[string]bool{"go.work": false, "go.mod": false, "bench/go.mod": false, "tables/go.mod": true} {
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
		{"/stores", "testing", 1},
		{"/partdtest", "testing testing/iotest pgregory.net/rapid", 0},
		{"/internal/vfs", "github.com/go-partd/partd", 1},
		{"/internal/new", "testing/iotest github.com/go-partd/partd/internal/vfs golang.org/x/term", 2},
		{"/new", "os", 1},
		{"/internal/cli", module + "/tables/filter", 1},
	} {
		p := goPackage{ImportPath: module + c.name, Imports: strings.Fields(c.imports)}
		if wrong := wrongImports(p); len(wrong) != c.wrong {
			t.Errorf("%s imports %s: found %q", p.ImportPath, c.imports, wrong)
		}
	}
}
