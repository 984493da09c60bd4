package engines

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

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
	script, err := filepath.Abs(filepath.Join("testdata", "pyiceberg_suite.py"))
	if err != nil {
		t.Fatal(err)
	}
	skipped, err := json.Marshal(skippedTests)
	if err != nil {
		t.Fatal(err)
	}
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
