package tables_test

import (
	"strings"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestCatalogFormat checks that Open rejects a catalog with an unknown format.
func TestCatalogFormat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := tabletest.Open(t, dir, nil)
	tabletest.Succeed(t, s.Close())
	tabletest.ExecInCatalog(t, dir, `UPDATE partd_info SET value='3' WHERE key='format'`)
	if _, err := tables.Open(t.Context(), dir, nil); err == nil || !strings.Contains(err.Error(), "use a newer version") {
		t.Errorf(`Open error = %v, want an error with the text "use a newer version"`, err)
	}
}
