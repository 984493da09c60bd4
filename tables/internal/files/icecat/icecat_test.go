package icecat

import (
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// TestNoPostgres checks that a program without package tables/postgres gets an error that names the import.
func TestNoPostgres(t *testing.T) {
	c, err := Open(t.Context(), t.TempDir(), Options{FS: vfs.OS{}, Database: "postgres://localhost/house"})
	if c != nil || err == nil || !strings.Contains(err.Error(), `import _ "github.com/go-partd/partd/tables/postgres"`) {
		t.Errorf("Open = %v, %v, want an error that names the import", c, err)
	}
}
