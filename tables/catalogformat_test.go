package tables

import (
	"strings"
	"testing"
)

// TestCatalogFormat checks that a catalog with an unknown format is refused.
func TestCatalogFormat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir, nil)
	mustDo(t, s.Close())
	foreign(t, dir, `UPDATE partd_info SET value='3' WHERE key='format'`)
	if _, err := Open(t.Context(), dir, nil); err == nil || !strings.Contains(err.Error(), "use a newer version") {
		t.Error(err)
	}
}
