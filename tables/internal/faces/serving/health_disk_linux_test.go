package serving

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
)

// TestReadyDisks checks that a server is not ready, and says why, if its disk has no free inodes, or if the disk of
// temporary files is full or read-only.
func TestReadyDisks(t *testing.T) {
	disk, temp := vfstest.Mount(t, "tmpfs", 64<<20), vfstest.Mount(t, "tmpfs", 64<<20)
	t.Setenv("TMPDIR", temp)
	store := must.Get(tables.Open(t.Context(), filepath.Join(disk, "tables"), nil))(t)
	t.Cleanup(func() { _ = store.Close() })
	s := must.Get(New(store, nil))(t)
	check := func(want string) {
		t.Helper()
		err := s.Ready()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), disk) || strings.Contains(err.Error(), temp)) {
			t.Errorf("Ready() = %v, want an error with %q and without a path", err, want)
		}
	}
	check("")
	free := vfstest.Fill(t, temp)
	check("the disk of temporary files has")
	free()
	check("")
	must.Do(t, syscall.Mount("", temp, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	check("the disk of temporary files: read-only file system")
	must.Do(t, syscall.Mount("", temp, "", syscall.MS_REMOUNT, ""))
	check("")
	must.Do(t, syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "nr_inodes=200"))
	file := func(i int) string { return filepath.Join(disk, fmt.Sprint(i)) }
	var err error
	for i := 0; err == nil; i++ {
		err = os.WriteFile(file(i), nil, 0o600)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	check("the disk of the tables: no space left on device for another file: the disk has no free inodes")
	must.Do(t, os.Remove(file(0)))
	check("")
}
