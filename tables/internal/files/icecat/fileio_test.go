package icecat

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestForeignLocations checks that locations written by other engines resolve to the right files: Java writes
// file:/ with one slash, and escaped characters in names must not be unescaped.
func TestForeignLocations(t *testing.T) {
	dir := t.TempDir()
	c := must.Get(Open(t.Context(), dir, Options{FS: vfs.OS{}}))(t)
	defer c.Close() //nolint:errcheck // the catalog is only read
	location := c.LocationOf([16]byte{1})
	path := must.Get(c.local(location))(t)
	must.Do(t, os.MkdirAll(filepath.Join(path, "k=a%2Fb"), 0o700))
	file := filepath.Join(path, "k=a%2Fb", "x.parquet")
	must.Do(t, os.WriteFile(file, []byte("x"), 0o600))
	fileLocation := location + "/k=a%2Fb/x.parquet"
	for _, name := range []string{fileLocation, "file:" + strings.TrimPrefix(fileLocation, "file://")} {
		if got, err := c.local(name); got != file || err != nil {
			t.Errorf("local(%s) = %s, %v, want %s in %s", name, got, err, file, dir)
		}
		if err := c.CheckWithin(location, name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"file:/etc/passwd", "file://host/etc/passwd", location + "/../x", "file:" + strings.TrimPrefix(location, "file://") + "/../x"} {
		if err := c.CheckWithin(location, name); err == nil {
			t.Errorf("%s is accepted as a file of the table", name)
		}
	}
}

// TestWritesOutside checks that no file outside the directory data is written or removed.
func TestWritesOutside(t *testing.T) {
	dir := t.TempDir()
	c := must.Get(Open(t.Context(), dir, Options{FS: vfs.OS{}}))(t)
	defer c.Close()
	io := c.NewIO()
	for _, location := range []string{c.location("catalog.db-x"), c.location("data/../x"), "file://" + filepath.Dir(dir) + "/x"} {
		if err := io.WriteFile(location, []byte("1")); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("WriteFile(%s): error = %v, want %v", location, err, fs.ErrPermission)
		}
		if err := io.Remove(location); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("Remove(%s): error = %v, want %v", location, err, fs.ErrPermission)
		}
	}
}
