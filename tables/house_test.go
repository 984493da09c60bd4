package tables_test

import (
	"flag"
	"io/fs"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/layering"
	"github.com/go-partd/partd/internal/testutil/must"
)

var update = flag.Bool("update", false, "rewrite the table of packages in docs/dev/tables-design.md")

// tablesLayering lists the layers of the module, top first. Add each new package to a layer above all packages that it
// imports, and run "go test -run TestHouse . -update" to rewrite the table of packages in docs/dev/tables-design.md.
var tablesLayering = layering.Layering{
	Module: "github.com/go-partd/partd/tables", Root: "tables", Cgo: true, MayUseTesting: []string{"internal/testutil/tabletest", "tablestest"},
	Shared: []string{"github.com/go-partd/partd", "github.com/apache/arrow-go"},
	Layers: []layering.Layer{
		{Name: "for tests", Packages: map[string][]string{
			"bench":                       {"internal/testutil/tabletest", "github.com/apache/iceberg-go", "github.com/duckdb/duckdb-go-bindings", "google.golang.org/grpc", "google.golang.org/grpc/credentials/insecure"},
			"internal/testutil/tabletest": {"github.com/apache/iceberg-go", "github.com/jackc/pgx", "modernc.org/sqlite"},
		}},
		{Name: "programs", Packages: map[string][]string{
			"cmd/partd-tables":  nil,
			"examples/airports": nil,
			"examples/trades":   {"golang.org/x/sync"},
		}},
		{Name: "command line", Packages: map[string][]string{
			"internal/quickstart": {"github.com/substrait-io/substrait-go"},
			"cmd/internal/cli":    {"github.com/KimMachineGun/automemlimit", "github.com/spf13/cobra", "github.com/spf13/pflag"},
		}},
		{Name: "servers, clients", Packages: map[string][]string{
			"flightd":      {"github.com/golang-jwt/jwt", "google.golang.org/grpc", "google.golang.org/protobuf"},
			"flightclient": {"google.golang.org/grpc"},
			"page":         {"google.golang.org/grpc"},
			"pull":         {"github.com/nats-io/nats-server", "github.com/nats-io/nats.go"},
			"rest":         {"github.com/apache/iceberg-go", "github.com/google/uuid", "google.golang.org/grpc"},
		}},
		{Name: "engines and pipelines", Packages: map[string][]string{
			"bulk":  nil,
			"duck":  nil,
			"stage": {"github.com/zeebo/xxh3"},
		}},
		{Name: "family faces", Family: true, Packages: map[string][]string{
			"internal/faces/following":    nil,
			"internal/faces/formats":      {"github.com/google/uuid"},
			"internal/faces/kinds":        {"google.golang.org/grpc"},
			"internal/faces/lineprotocol": nil,
			"internal/faces/operations":   nil,
			"internal/faces/serving":      {"github.com/golang-jwt/jwt", "github.com/prometheus/client_golang", "google.golang.org/grpc"},
		}},
		{Name: "built on tables", Packages: map[string][]string{
			"iceberg":    {"github.com/apache/iceberg-go"},
			"tablesotel": {"go.opentelemetry.io/otel"},
			"tablestest": nil,
			"transform":  nil,
		}},
		{Name: "tables", Packages: map[string][]string{
			".": {"github.com/apache/iceberg-go", "github.com/google/uuid", "github.com/zeebo/xxh3"},
		}},
		{Name: "family state", Family: true, Packages: map[string][]string{
			"internal/state/commit":     {"github.com/apache/iceberg-go", "github.com/google/uuid", "golang.org/x/sync"},
			"internal/state/definition": {"github.com/apache/iceberg-go"},
			"internal/state/foreign":    {"github.com/apache/iceberg-go", "github.com/google/uuid"},
			"internal/state/rules":      nil,
			"internal/state/series":     {"github.com/apache/iceberg-go"},
			"internal/state/tail":       {"github.com/google/uuid"},
		}},
		{Name: "catalogs", Packages: map[string][]string{
			"postgres": {"github.com/jackc/pgx"},
		}},
		{Name: "family files", Family: true, Packages: map[string][]string{
			"internal/files/bucketfs": {"github.com/google/uuid", "github.com/zeebo/xxh3", "golang.org/x/sys", "golang.org/x/sync"},
			"internal/files/content":  {"github.com/apache/iceberg-go", "github.com/zeebo/xxh3", "golang.org/x/time"},
			"internal/files/datafile": {"github.com/apache/iceberg-go", "github.com/google/uuid", "golang.org/x/sync"},
			"internal/files/icecat": {
				"github.com/apache/iceberg-go", "github.com/google/uuid", "github.com/zeebo/xxh3",
				"github.com/twmb/avro", "golang.org/x/sync", "modernc.org/sqlite",
			},
			"internal/files/parquetfile": nil,
		}},
		{Name: "filters", Packages: map[string][]string{
			"filter": nil,
		}},
		{Name: "parts", Packages: map[string][]string{
			"internal/parted": nil,
		}},
		{Name: "family sql", Family: true, Packages: map[string][]string{
			"internal/sql/database": {"github.com/duckdb/duckdb-go-bindings"},
			"internal/sql/sqltext":  nil,
			"internal/sql/sqlwrite": nil,
			"internal/sql/worker":   nil,
		}},
		{Name: "family rows", Family: true, Packages: map[string][]string{
			"internal/rows/arrowsafe":  {"github.com/google/flatbuffers"},
			"internal/rows/arrowtype":  nil,
			"internal/rows/arrowvalue": nil,
			"internal/rows/batches":    nil,
			"internal/rows/gostruct":   nil,
			"internal/rows/parallel":   {"golang.org/x/sync"},
			"internal/rows/schema":     {"github.com/apache/iceberg-go", "github.com/google/uuid", "github.com/klauspost/compress"},
			"internal/rows/sorted":     nil,
			"internal/rows/take":       nil,
		}},
	},
}

// TestImports checks that each package imports only what its layer allows.
func TestImports(t *testing.T) { tablesLayering.CheckImports(t) }

// TestWeight limits how many packages a program links when it imports these packages. As docs/dev/tables-design.md
// says, iceberg-go and arrow-go link gRPC, testify and others.
func TestWeight(t *testing.T) {
	layering.CheckWeight(t, ".", 575, unwanted...)
	layering.CheckWeight(t, "./internal/rows/arrowsafe", 200, unwanted...)
	layering.CheckWeight(t, "./bulk", 575, unwanted...)
	layering.CheckWeight(t, "./cmd/partd-tables", 760, "cloud.google.com/go/storage", "github.com/envoyproxy", "google.golang.org/api")
}

// unwanted lists clients and servers that may be linked only by the packages that need them.
var unwanted = []string{
	"github.com/jackc", "github.com/minio", "github.com/nats-io", "github.com/prometheus", "github.com/duckdb", "github.com/spf13",
	"cloud.google.com/go/storage", "google.golang.org/api", "github.com/aws",
}

// TestAliases checks that go doc shows the fields of every exported type.
func TestAliases(t *testing.T) { tablesLayering.CheckAliases(t) }

// TestNoIcebergTypes checks that the exported API of package tables has no types of iceberg-go: package iceberg has
// them.
func TestNoIcebergTypes(t *testing.T) {
	doc := must.Get(exec.CommandContext(t.Context(), "go", "doc", "-all", ".").Output())(t)
	_, api, _ := strings.Cut(string(doc), "\nCONSTANTS\n") // omit the package's comment
	if !strings.Contains(api, "\nfunc Open(") {
		t.Fatalf("go doc does not show the function Open: %.500s", doc)
	}
	icebergType := regexp.MustCompile(`\b(iceberg|table)\.[A-Z]`)
	for line := range strings.Lines(api) {
		code, _, _ := strings.Cut(line, "//")
		if isComment := strings.HasPrefix(line, "    "); !isComment && icebergType.MatchString(code) {
			t.Errorf("move this to package iceberg: %s", line)
		}
	}
}

// TestHouse compares the table of packages in docs/dev/tables-design.md with tablesLayering. It also checks that no
// folder has more than 100 Go files, and that a test file in this folder is named after a file of code.
func TestHouse(t *testing.T) {
	tablesLayering.CheckTable(t, "../docs/dev/tables-design.md", *update)
	count := map[string]int{}
	var tests []string
	code := map[string]bool{"example": true, "house": true, "internals": true}
	must.Do(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		dir, file := filepath.Split(path)
		name, isGo := strings.CutSuffix(file, ".go")
		if !isGo || d.IsDir() {
			return err
		}
		count[dir]++
		if base, isTest := strings.CutSuffix(name, "_test"); dir == "" && isTest {
			tests = append(tests, base)
		} else if dir == "" {
			code[name] = true
		}
		return err
	}))
	for dir, n := range count {
		if n > 100 {
			t.Errorf("the folder tables/%s has %d Go files, want at most 100", dir, n)
		}
	}
	for _, test := range tests {
		if subject, _, _ := strings.Cut(test, "_"); !code[subject] {
			t.Errorf("%s_test.go: there is no %s.go: rename it, or move it to tables/tests if it needs only the exported API", test, subject)
		}
	}
}
