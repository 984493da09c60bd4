package tables_test

import (
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// TestGracePeriodRestarts checks that a file's grace period starts again if Expire records the file as unused, then the
// file is committed, and then it becomes unused again. Otherwise, Expire could remove a file that a reader still reads.
func TestGracePeriodRestarts(t *testing.T) {
	t.Parallel()
	var s *tables.Store
	recorded := 0
	h := tables.Hooks{FS: vfs.OS{}, OnPrepared: func() {
		if recorded == 0 {
			r, err := s.Expire(t.Context(), &tables.MaintainOptions{Keep: 100})
			if err != nil {
				t.Error(err)
			}
			recorded += r.FilesWaiting
		}
	}}
	s, err := tables.OpenHooked(t.Context(), t.TempDir(), &tables.Options{NoTail: true}, h)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // the test is over
	b := s.Bucket("")
	tabletest.Put(t, b, "a", tables.PutAppend, 1)
	if recorded == 0 {
		t.Fatal("Expire recorded no unused files before the commit")
	}
	for _, drop := range []func() error{
		func() error {
			_, err := b.Table("a").Put(t.Context(), tabletest.Rows(2), tables.PutReplace, nil)
			return err
		},
		func() error { return b.Delete(t.Context(), "a") },
	} {
		table := b.Table("a")
		r, err := table.Scan(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := drop(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Expire(t.Context(), &tables.MaintainOptions{Grace: -1}); err != nil {
			t.Fatal(err)
		}
		if !r.Next() || r.RecordBatch().NumRows() != 1 {
			t.Fatalf("the scan returned no batch of one row; error: %v", r.Err())
		}
		r.Release()
	}
}
