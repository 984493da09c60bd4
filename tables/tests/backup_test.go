package tables_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestBackupOrigin checks that a store with backups refuses another store's backup, and that a store that was restored
// from it, moved or copied continues the backups.
func TestBackupOrigin(t *testing.T) {
	t.Parallel()
	ctx, root := t.Context(), t.TempDir()
	open := func(name string) *tables.Store { return tabletest.Open(t, filepath.Join(root, name), nil) }
	n := 0
	backup := func(s, to *tables.Store, isRelated bool) {
		t.Helper()
		n++
		tabletest.Put(t, s.Bucket("b"), "t", tables.PutReplace, int64(n))
		_, err := s.Backup(ctx, to, fmt.Sprint(n))
		if !isRelated {
			if !errors.Is(err, tables.ErrExists) {
				t.Errorf("backup %d of an unrelated store: error = %v, want ErrExists", n, err)
			}
			return
		}
		tabletest.Succeed(t, err)
		restored := tabletest.Open(t, t.TempDir(), nil)
		_, err = restored.RestoreFrom(ctx, to, fmt.Sprint(n))
		tabletest.Succeed(t, err)
		tabletest.WantRows(t, restored.Bucket("b"), "t", int64(n))
	}
	s, b, other := open("store"), open("backups"), open("other")
	backup(s, b, true)
	backup(other, b, false)
	tabletest.Put(t, other.Bucket("another"), "t", tables.PutAppend, 1)
	if _, err := other.Backup(ctx, b, "x", "another"); !errors.Is(err, tables.ErrExists) {
		t.Errorf("backup of another bucket of another store: error = %v, want ErrExists", err)
	}

	restored, fromRestored := open("restored"), open("backups of restored")
	_, err := restored.RestoreFrom(ctx, b, "1")
	tabletest.Succeed(t, err)
	backup(restored, b, true)
	backup(restored, fromRestored, true)
	backup(s, fromRestored, false)
	_, err = other.RestoreFrom(ctx, b, "1", "b") // only one bucket
	tabletest.Succeed(t, err)
	backup(other, b, false)
	for _, from := range []*tables.Store{s, restored} {
		copied := tabletest.Open(t, t.TempDir(), nil)
		_, err = from.CopyTo(ctx, copied)
		tabletest.Succeed(t, err)
		backup(copied, b, true)
		_, err = copied.CopyTo(ctx, other, "b") // other has tables already
		if err == nil {
			t.Error("CopyTo replaced another store's table")
		}
		backup(other, copied, false)
	}
	backup(other, b, false)

	backup(s, b, true)
	tabletest.Succeed(t, s.Close())
	tabletest.Succeed(t, os.CopyFS(filepath.Join(root, "plain copy"), os.DirFS(filepath.Join(root, "store"))))
	tabletest.Succeed(t, os.Rename(filepath.Join(root, "store"), filepath.Join(root, "moved")))
	backup(open("moved"), b, true)
	backup(open("plain copy"), b, true)
}
