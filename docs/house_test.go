package docs_test

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/layering"
	"github.com/go-partd/partd/internal/testutil/must"
)

const module = "github.com/go-partd/partd"

var update = flag.Bool("update", false, "rewrite the generated parts of pages")

// partdLayering lists the layers of the module. Add each new package here, in a layer
// above all packages that it imports, and run "go test -run TestHouse ./docs -update", which
// rewrites the table of packages in docs/dev/design.md.
var partdLayering = layering.Layering{Module: module, Root: "partd", MayUseTesting: mayUseTesting, Layers: []layering.Layer{
	{Name: "for tests", Packages: map[string][]string{ // the top layer, so that no package can import them
		"partdtest":                     {"pgregory.net/rapid"},
		"internal/testutil/attempttest": nil,
		"internal/testutil/benchdata":   nil,
		"internal/testutil/hostile":     nil,
		"internal/testutil/layering":    nil,
		"internal/testutil/must":        nil,
		"internal/testutil/nettest":     nil,
		"internal/testutil/procs":       {"internal/testutil/must"},
		"internal/testutil/storetest":   {"partdtest", "internal/testutil/procs"},
		"internal/testutil/vfstest":     {"golang.org/x/sys", "internal/testutil/procs"},
	}},
	{Name: "programs", Packages: map[string][]string{
		"cmd/partd":        nil,
		"cmd/partd-server": nil,
		"examples/tasks":   nil,
		"examples/shuffle": nil,
	}},
	{Name: "family command", Family: true, Packages: map[string][]string{
		"internal/command/cli":        {"github.com/dustin/go-humanize", "github.com/zeebo/xxh3", "github.com/spf13/cobra", "github.com/spf13/pflag"},
		"internal/command/cliutil":    {"github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/time"},
		"internal/command/namespaces": nil,
		"internal/command/servercli":  {"github.com/spf13/cobra", "github.com/spf13/pflag"},
	}},
	{Name: "family jobs", Family: true, Packages: map[string][]string{
		"internal/jobs/aggregate": nil,
		"internal/jobs/filejobs":  {"github.com/dustin/go-humanize"},
		"internal/jobs/group":     {"github.com/dustin/go-humanize"},
		"internal/jobs/output":    nil,
		"internal/jobs/records":   {"golang.org/x/sys"},
		"internal/jobs/zfile":     {"github.com/klauspost/compress", "github.com/pierrec/lz4", "github.com/dsnet/compress"},
	}},
	{Name: "built on stores", Packages: map[string][]string{
		"remote/tokens": nil,
		"shuffle":       {"github.com/zeebo/xxh3"},
		"stores":        {"github.com/dustin/go-humanize"},
	}},
	{Name: "stores and layers", Packages: map[string][]string{
		"compress": {"github.com/golang/snappy", "github.com/klauspost/compress", "github.com/pierrec/lz4", "github.com/dsnet/compress"},
		"encode":   {"github.com/golang/snappy"},
		"logstore": {"github.com/zeebo/xxh3", "github.com/klauspost/compress"},
		"remote":   nil,
		"shards":   {"github.com/zeebo/xxh3"},
	}},
	{Name: "family engine", Family: true, Packages: map[string][]string{
		"internal/engine/extsort":   {"github.com/zeebo/xxh3", "github.com/klauspost/compress"},
		"internal/engine/hashagg":   {"github.com/zeebo/xxh3"},
		"internal/engine/hashjoin":  nil,
		"internal/engine/mergejoin": nil,
		"internal/engine/segment":   {"github.com/zeebo/xxh3", "github.com/klauspost/compress"},
		"internal/engine/spill":     nil,
	}},
	{Name: "helpers for layers", Packages: map[string][]string{
		"storekit": nil,
	}},
	{Name: "a store that fails", Packages: map[string][]string{
		"internal/layer": nil,
	}},
	{Name: "the root", Packages: map[string][]string{
		".": {"github.com/gofrs/flock"},
	}},
	{Name: "family server", Family: true, Packages: map[string][]string{
		"internal/server/adminhttp": nil,
		"internal/server/audit":     nil,
		"internal/server/certfiles": nil,
		"internal/server/metrics":   nil,
		"internal/server/ratelimit": {"golang.org/x/time"},
		"internal/server/zmtp":      nil,
	}},
	{Name: "family pyvalue", Family: true, Packages: map[string][]string{
		"internal/pyvalue":         nil,
		"internal/pyvalue/msgpack": {"github.com/tinylib/msgp"},
		"internal/pyvalue/npy":     nil,
		"internal/pyvalue/pickle":  nil,
	}},
	{Name: "family disk", Family: true, Packages: map[string][]string{
		"internal/disk/filedir":   nil,
		"internal/disk/groupsync": nil,
		"internal/disk/names":     nil,
		"internal/disk/space":     {"github.com/dustin/go-humanize"},
		"internal/disk/tempdir":   nil,
		"internal/disk/vfs":       {"github.com/gofrs/flock", "golang.org/x/sys"},
	}},
	{Name: "family base", Family: true, Packages: map[string][]string{
		"internal/base/canceled":   nil,
		"internal/base/keymap":     {"golang.org/x/sys"},
		"internal/base/ledger":     {"github.com/zeebo/xxh3"},
		"internal/base/offheap":    {"golang.org/x/sys"},
		"internal/base/progress":   {"golang.org/x/term"},
		"internal/base/sessiontab": nil,
		"internal/base/storeerror": nil,
		"internal/base/textfmt":    {"github.com/dustin/go-humanize"},
		"internal/base/where":      {"golang.org/x/text"},
	}},
	{Name: "formats", Packages: map[string][]string{
		"compress/blosc": {"github.com/golang/snappy", "github.com/klauspost/compress", "github.com/pierrec/lz4"},
		"frame":          nil,
	}},
}}

// mayUseTesting lists packages that may import testing, which adds flags to every program that links it.
var mayUseTesting = []string{"partdtest", "internal/testutil/attempttest", "internal/testutil/layering", "internal/testutil/nettest", "internal/testutil/procs", "internal/testutil/storetest", "internal/testutil/vfstest"}

func TestImports(t *testing.T) { partdLayering.CheckImports(t) }

func TestHouse(t *testing.T) { partdLayering.CheckTable(t, "docs/dev/design.md", *update) }

// TestAliases checks that go doc shows the fields of every exported type. The exceptions are the Python values, which
// decoders of internal packages return as any, so their types must be the same. Their comments begin with the types.
func TestAliases(t *testing.T) {
	partdLayering.CheckAliases(t, "encode.PyTuple", "encode.PyDict", "encode.PyItem", "encode.PySet", "encode.PyFrozenSet", "encode.PyByteArray")
}

// TestWeight checks that importing a package does not link too many packages, or certain large ones.
func TestWeight(t *testing.T) {
	layering.CheckWeight(t, "./encode", 175, "net", "crypto/tls", "testing")
	layering.CheckWeight(t, ".", 140, "net", "crypto/tls", "testing")
	layering.CheckWeight(t, "./stores", 250, "net/http", "testing")
	layering.CheckWeight(t, "./logstore", 155, "net", "crypto/tls", "testing")
}

// TestTablesAreApart checks that no other module requires tables, whose requirements are large.
func TestTablesAreApart(t *testing.T) {
	for name, want := range map[string]bool{"go.mod": false, "bench/go.mod": false, "objstore/go.mod": false, "tables/go.mod": true} {
		text := must.Get(os.ReadFile(name))(t)
		if strings.Contains(string(text), "./tables") || strings.Contains(string(text), module+"/tables") != want {
			t.Errorf("%s mentions the tables module: %v, want %v", name, !want, want)
		}
	}
}

// TestWrongImportsAreFound checks that WrongImports reports imports that the layers do not allow.
func TestWrongImportsAreFound(t *testing.T) {
	for _, c := range []struct {
		name, imports string
		wrong         int
	}{
		{"", "os io/fs github.com/gofrs/flock github.com/go-partd/partd/internal/disk/vfs", 0},
		{"", "github.com/go-partd/partd/stores", 1},
		{"", "github.com/spf13/cobra github.com/gofrs/flockery", 2},
		{"/frame", "io github.com/go-partd/partd", 1},
		{"/stores", "testing github.com/go-partd/partd/partdtest", 2},
		{"/partdtest", "testing testing/iotest pgregory.net/rapid", 0},
		{"/internal/disk/vfs", "github.com/go-partd/partd", 1},
		{"/logstore", "github.com/go-partd/partd/shards", 1},                                                                // a package of the same layer
		{"/internal/base/keymap", "testing/iotest github.com/go-partd/partd/internal/base/storeerror golang.org/x/term", 2}, // a family
		{"/internal/new", "os", 1},
		{"/internal/command/cli", module + "/tables/filter " + module + "/internal/new", 2},
	} {
		p := layering.Package{ImportPath: module + c.name, Imports: strings.Fields(c.imports)}
		if wrong := partdLayering.WrongImports(p); len(wrong) != c.wrong {
			t.Errorf("WrongImports of %s with the imports %s = %q, want %d", p.ImportPath, c.imports, wrong, c.wrong)
		}
	}
}

// TestTestFiles checks that a test file is named after the code next to it, perhaps with a part, as CONTRIBUTING.md says.
func TestTestFiles(t *testing.T) {
	subjects := map[string]bool{} // paths of code without .go and the name of a system
	var tests []string
	system := regexp.MustCompile(`_(linux|unix|darwin|windows|amd64|other)$`)
	for _, file := range filesBelow(t, ".go", "testdata", "testutil", "bench") {
		name, isTest := strings.CutSuffix(strings.TrimSuffix(file, ".go"), "_test")
		if isTest {
			tests = append(tests, name)
		} else {
			subjects[system.ReplaceAllString(name, "")] = true
			subjects[path.Dir(name)] = true
		}
	}
	for _, name := range tests {
		folder, subject := path.Split(name)
		part, _, _ := strings.Cut(subject, "_")
		if !subjects[path.Clean(folder)] || slices.Contains([]string{"example", "export", "house", "internals"}, part) {
			continue // a folder of tests, or tests of a whole package
		}
		for !subjects[folder+subject] && subject != "" {
			subject = subject[:max(strings.LastIndexByte(subject, '_'), 0)]
		}
		if subject == "" {
			t.Errorf("%s_test.go: no code next to it has this name: rename the test file", name)
		}
	}
}

// TestHeaders checks that no header of an if or switch statement in the product changes state: it may only declare
// variables.
func TestHeaders(t *testing.T) {
	files := slices.DeleteFunc(filesBelow(t, ".go", "testdata", "testutil", "bench", "examples"), func(path string) bool {
		return strings.HasSuffix(path, "_test.go")
	})
	if len(files) < 500 {
		t.Errorf("found %d files, want at least 500", len(files))
	}
	for _, path := range files {
		for _, position := range changingHeaders(t, path, nil) {
			t.Errorf("%s: the header changes state: move the statement to a line of its own, before the header", position)
		}
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
