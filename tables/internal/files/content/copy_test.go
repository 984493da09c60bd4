package content

import (
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// TestCopyEqualFiles checks that two files of other programs with the same name and content get separate
// copies.
func TestCopyEqualFiles(t *testing.T) {
	t.Parallel()
	to := must.Get(icecat.Open(t.Context(), t.TempDir(), icecat.Options{FS: vfs.OS{}}))(t)
	defer to.Close() //nolint:errcheck // only read
	files := to.NewIO()
	path := to.NewLocation() + "/data/1.parquet"
	must.Do(t, files.WriteFile(path, []byte("rows")))
	must.Do(t, to.RecordFiles(t.Context(), files))
	content, ok, err := to.FileAt(t.Context(), path)
	if err != nil || !ok {
		t.Fatalf("FileAt = %v, %v, want true", ok, err)
	}
	c := NewCopy(nil, to, false)
	for i, want := range []string{path, "", ""} {
		if got, usable, err := c.findExisting(t.Context(), content); err != nil || got != want || usable != (want != "") {
			t.Errorf("find, call %d: got %q, usable %v, %v, want %q", i, got, usable, err, want)
		}
	}
	if a, b := c.chooseLocation("x/1.parquet", "d"), c.chooseLocation("y/1.parquet", "d"); a == b {
		t.Errorf("chooseLocation returned %q twice", a)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	c := must.Get(icecat.Open(t.Context(), t.TempDir(), icecat.Options{FS: vfs.OS{}}))(t)
	defer c.Close() //nolint:errcheck // only read
	files := c.NewIO()
	for _, name := range []string{"good", "other"} {
		must.Do(t, files.WriteFile(c.NewLocation()+"/data/"+name, []byte(name)))
	}
	good, other := files.Written()[0], files.Written()[1]
	must.Do(t, Check(t.Context(), c, good.Path, good))
	if err := Check(t.Context(), c, other.Path, good); err == nil || !strings.Contains(err.Error(), "it is larger than the 4 bytes") {
		t.Error(err)
	}
	if err := Check(t.Context(), c, good.Path+"x", good); err == nil {
		t.Error("Check accepted a missing file")
	}
}
