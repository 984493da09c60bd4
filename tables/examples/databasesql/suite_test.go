package databasesql_test

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-adbc/go/adbc"
	"github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-adbc/go/adbc/validation"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/suite"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

// suiteEnv is the environment variable that makes TestSuite run the suite in this process.
const suiteEnv = "PARTD_TEST_SUITE"

// expectedFailures maps the tests of the suite that are expected to fail to the reasons.
var expectedFailures = map[string]string{
	"TestSQLPrepareSelectParams":                            "a query accepts one row of parameters, but the suite binds three",
	"TestSqlIngestErrors/append_to_nonexistent_table":       "this driver never sets the SQLSTATE; the code is NotFound",
	"TestSqlIngestErrors/overwrite_and_incompatible_schema": "the code for an existing table is AlreadyExists, but the suite requires Internal",
}

// unknown is the version that a driver reports in a test binary.
const unknown = "(unknown or development build)"

// quirks describes the driver and a server for the suite.
type quirks struct {
	t     *testing.T
	store *tables.Store
	uri   string
}

func (quirks) SetupDriver(*testing.T) adbc.Driver {
	return flightsql.NewDriver(memory.DefaultAllocator)
}

func (quirks) TearDownDriver(*testing.T, adbc.Driver) {}

func (q quirks) DatabaseOptions() map[string]string {
	return map[string]string{adbc.OptionKeyURI: q.uri}
}

func (quirks) BindParameter(int) string                    { return "?" }
func (quirks) SupportsBulkIngest(string) bool              { return true }
func (quirks) SupportsConcurrentStatements() bool          { return true }
func (quirks) SupportsCurrentCatalogSchema() bool          { return false }
func (quirks) SupportsGetSetOptions() bool                 { return true }
func (quirks) SupportsExecuteSchema() bool                 { return true }
func (quirks) SupportsPartitionedData() bool               { return true }
func (quirks) SupportsStatistics() bool                    { return false }
func (quirks) SupportsTransactions() bool                  { return false }
func (quirks) SupportsGetParameterSchema() bool            { return true }
func (quirks) SupportsDynamicParameterBinding() bool       { return true }
func (quirks) SupportsErrorIngestIncompatibleSchema() bool { return true }
func (quirks) Catalog() string                             { return "partd" }
func (quirks) DBSchema() string                            { return "default" }
func (quirks) Alloc() memory.Allocator                     { return memory.DefaultAllocator }

func (quirks) GetMetadata(code adbc.InfoCode) any {
	return map[adbc.InfoCode]any{
		adbc.InfoDriverName: "ADBC Flight SQL Driver - Go", adbc.InfoDriverVersion: unknown, adbc.InfoDriverArrowVersion: unknown, adbc.InfoDriverADBCVersion: adbc.AdbcVersion1_1_0,
		adbc.InfoVendorName: "partd-tables", adbc.InfoVendorVersion: "unknown", adbc.InfoVendorArrowVersion: arrow.PkgVersion,
	}[code]
}

func (q quirks) CreateSampleTable(name string, r arrow.RecordBatch) error {
	rows, err := array.NewRecordReader(r.Schema(), []arrow.RecordBatch{r})
	if err != nil {
		return err
	}
	defer rows.Release()
	_, err = q.store.Bucket("").Table(name).Put(q.t.Context(), rows, tables.PutReplace, nil)
	return err
}

func (quirks) SampleTableSchemaMetadata(string, arrow.DataType) arrow.Metadata {
	return arrow.Metadata{}
}

func (q quirks) DropTable(_ adbc.Connection, name string) error {
	if err := q.store.Bucket("").Delete(q.t.Context(), name); !errors.Is(err, tables.ErrNotFound) {
		return err
	}
	return nil
}

// TestSuite runs the driver's validation suite against a server, in a child process, and compares the failed tests with
// expectedFailures.
func TestSuite(t *testing.T) {
	if os.Getenv(suiteEnv) != "" {
		store := openTrades(t)
		q := quirks{t, store, "grpc://" + serve(t, store, nil)}
		suite.Run(t, &validation.DatabaseTests{Quirks: q})
		suite.Run(t, &validation.ConnectionTests{Quirks: q})
		suite.Run(t, &validation.StatementTests{Quirks: q})
		return
	}
	cmd := exec.CommandContext(t.Context(), must.Get(os.Executable())(t), "-test.run", "^TestSuite$", "-test.v")
	cmd.Env = append(os.Environ(), suiteEnv+"=1")
	out, _ := cmd.CombinedOutput() // the list of failed tests matters, not the exit code
	var failed []string
	passed := 0
	for _, m := range regexp.MustCompile(`(?m)^ +--- (PASS|FAIL): TestSuite/(\S+)`).FindAllSubmatch(out, -1) {
		switch name := string(m[2]); {
		case string(m[1]) == "PASS":
			passed++
		case len(failed) > 0 && strings.HasPrefix(name, failed[len(failed)-1]+"/"): // report the subtest instead of its parent
			failed[len(failed)-1] = name
		default:
			failed = append(failed, name)
		}
	}
	got, want := slices.Sorted(slices.Values(failed)), slices.Sorted(maps.Keys(expectedFailures))
	for _, name := range want {
		t.Logf("failed %s: %s", name, expectedFailures[name]) // bench/suites/run reads this
	}
	if t.Logf("%d passed, %d failed", passed, len(failed)); !slices.Equal(got, want) || passed < 30 {
		t.Errorf("%d tests passed, want at least 30; failed tests are %q, want %q\n%s", passed, got, want, out)
	}
}
