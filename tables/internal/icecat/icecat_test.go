package icecat

import (
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/vfs"
)

// A program that does not import package tables/postgres is told to.
func TestNoPostgres(t *testing.T) {
	c, err := Open(t.Context(), t.TempDir(), Options{FS: vfs.OS{}, Database: "postgres://localhost/house"})
	if c != nil || err == nil || !strings.Contains(err.Error(), `import _ "github.com/go-partd/partd/tables/postgres"`) {
		t.Errorf("%v", err)
	}
}
