package engines

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/apache/iceberg-go/catalog"
	"github.com/apache/iceberg-go/catalog/catalogtest"
	"github.com/apache/iceberg-go/catalog/rest"

	"github.com/go-partd/partd/internal/testutil/must"
)

func (s *server) openCatalog(t testing.TB) *rest.Catalog {
	t.Helper()
	var options []rest.Option
	if s.token != "" {
		options = append(options, rest.WithOAuthToken(s.token))
	}
	return must.Get(rest.NewCatalog(context.Background(), "partd", s.url, options...))(t)
}

// TestConformance runs iceberg-go's catalog tests against this catalog, through its REST client.
func TestConformance(t *testing.T) {
	t.Parallel()
	s := serve(t)
	catalogtest.RunCatalogTests(t, catalogtest.Config{
		SupportsNamespaceProperties: true,
		NewCatalog:                  func(t *testing.T) catalog.Catalog { return s.openCatalog(t) },
	})
}

// expectedFailures lists the catalog tests of Iceberg that must fail with this catalog, by reason.
var expectedFailures = map[string][]string{
	"the error's code and type are as expected, but its message differs": {
		"testConcurrentCreateTransaction", "testConcurrentReplaceTransactionPartitionSpecConflict", "testConcurrentReplaceTransactionSchemaConflict",
		"testCreateOrReplaceTransactionConcurrentCreate", "testDropNonEmptyNamespace", "testRenameTableDestinationTableAlreadyExists", "testUUIDValidation",
		"testUpdateTableAssignmentSpecConflict", "testUpdateTableSchemaAssignmentConflict", "testUpdateTableSchemaConflict", "testUpdateTableSpecConflict",
	},
	"a table without its metadata file can be loaded, because the catalog has the metadata in memory": {"testLoadTableWithMissingMetadataFile(Path)"},
}

// TestIcebergSuite runs Iceberg's own catalog tests, which Maven downloads, with its REST client against this
// catalog. Only the expected failures may fail.
func TestIcebergSuite(t *testing.T) {
	if os.Getenv("PARTD_CATALOGTESTS") == "" {
		t.Skip("set PARTD_CATALOGTESTS=1 to download Iceberg's tests with Maven, and run them")
	}
	s := serve(t)
	target := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "mvn", "--batch-mode", "--quiet", "-Dtarget="+target, "-Duri="+s.url, "test")
	cmd.Dir = filepath.Join("testdata", "catalogtests")
	out, _ := cmd.CombinedOutput() // the report contains the failures
	report, err := os.ReadFile(filepath.Join(target, "surefire-reports", "TEST-partd.PartdCatalogTest.xml"))
	if err != nil {
		t.Fatalf("the tests wrote no report: %v\n%s", err, out)
	}
	var suite struct {
		Cases []struct {
			Name    string    `xml:"name,attr"`
			Failure *struct{} `xml:"failure"`
			Error   *struct{} `xml:"error"`
			Skipped *struct{} `xml:"skipped"`
		} `xml:"testcase"`
	}
	must.Do(t, xml.Unmarshal(report, &suite))
	var failed []string
	skipped := 0
	for _, c := range suite.Cases {
		switch {
		case c.Failure != nil || c.Error != nil:
			failed = append(failed, c.Name)
		case c.Skipped != nil:
			skipped++
			t.Logf("omitted %s: it tests nested or empty namespaces", c.Name) // bench/suites/run reads this
		}
	}
	slices.Sort(failed)
	want := slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Values(expectedFailures))...)))
	for reason, names := range expectedFailures {
		for _, name := range names {
			t.Logf("failed %s: %s", name, reason) // bench/suites/run reads this
		}
	}
	t.Logf("%d passed, %d failed, %d skipped", len(suite.Cases)-len(failed)-skipped, len(failed), skipped)
	if !slices.Equal(failed, want) || len(suite.Cases) < 100 {
		t.Errorf("failed %q, want %q\n%s", failed, want, out)
	}
}

// skippedTests lists the tests of pyiceberg that are skipped, by reason.
var skippedTests = map[string][]string{
	"they expect the messages of pyiceberg's own catalogs": {
		"test_table_raises_error_on_table_not_found", "test_purge_table", "test_get_namespace_metadata_raises_error_when_namespace_does_not_exist",
		"test_update_namespace_metadata_raises_error_when_namespace_does_not_exist", "test_drop_namespace_raises_error_when_namespace_not_empty",
	},
	"they inspect the internals of pyiceberg's own catalogs": {
		"test_create_tables_idempotency", "test_create_namespace_with_null_properties", "test_load_empty_namespace_properties", "test_commit_table",
		"test_catalog_commit_table_applies_schema_updates", "test_create_table_without_namespace", "test_create_namespace_with_empty_identifier",
	},
	"a namespace has one level": {
		"test_list_tables_under_a_namespace", "test_create_namespaces_sharing_same_prefix", "test_namespace_exists", "test_list_namespaces",
		"test_list_namespaces_fuzzy_match", "test_rest_custom_namespace_separator",
	},
	"the catalog chooses the location of a table": {
		"test_create_table_with_default_warehouse_location", "test_create_table_location_override", "test_create_table_removes_trailing_slash_from_location",
		"test_table_writes_metadata_to_custom_location", "test_table_metadata_writes_reflect_latest_path", "test_register_table", "test_register_existing_table",
	},
	"the catalog has no metadata log": {"test_delete_metadata_multiple", "test_append_table"},
	"tables have format 2 or 3":       {"test_create_table_transaction[memory-1]"},
	"views are not supported": {
		"test_rest_list_views", "test_rest_create_view", "test_rest_drop_view", "test_load_view", "test_load_view_with_table_ident", "test_namespace_with_dot[rest_catalog]",
	},
}

// TestPyIcebergSuite runs pyiceberg's own catalog tests, from its source, against this catalog, except the
// skipped ones.
func TestPyIcebergSuite(t *testing.T) {
	t.Parallel()
	s := serve(t)
	file, env := python(t)
	script := must.Get(filepath.Abs(filepath.Join("testdata", "pyiceberg_suite.py")))(t)
	skipped := must.Get(json.Marshal(skippedTests))(t)
	cmd := exec.CommandContext(t.Context(), file, script, s.url, filepath.Join(t.TempDir(), "pytest"), string(skipped))
	cmd.Dir, cmd.Env = filepath.Join(filepath.Dir(filepath.Dir(file)), "pyiceberg"), env
	out, err := cmd.CombinedOutput()
	passed := regexp.MustCompile(`(?m)^(\d+) passed`).FindSubmatch(out)
	if err != nil || passed == nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n, _ := strconv.Atoi(string(passed[1])); n < 100 {
		t.Errorf("%d tests passed, want at least 100\n%s", n, out)
	}
}
