package tables

import (
	"strings"
	"testing"
)

// TestCatalogFormat checks that Open rejects a catalog with an unknown format.
func TestCatalogFormat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir, nil)
	mustSucceed(t, s.Close())
	execInCatalog(t, dir, `UPDATE partd_info SET value='3' WHERE key='format'`)
	if _, err := Open(t.Context(), dir, nil); err == nil || !strings.Contains(err.Error(), "use a newer version") {
		t.Errorf(`Open error = %v, want an error with the text "use a newer version"`, err)
	}
}
