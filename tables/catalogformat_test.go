package tables

import (
	"strings"
	"testing"
)

// TestCatalogFormat opens a directory whose catalog has a format that is not known.
func TestCatalogFormat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir, nil)
	mustDo(t, s.Close())
	foreign(t, dir, `UPDATE partd_info SET value='3' WHERE key='format'`)
	if _, err := Open(t.Context(), dir, nil); err == nil || !strings.Contains(err.Error(), "use a newer one") {
		t.Error(err)
	}
}
