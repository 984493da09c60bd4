package engines

import (
	"encoding/xml"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

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
	if err := xml.Unmarshal(report, &suite); err != nil {
		t.Fatal(err)
	}
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
