package tables

import (
	"testing"

	"github.com/go-partd/partd/internal/vfs"
)

// TestSweepStartsAnew has Expire record a file as unused while the file waits for its commit.
// After the commit the grace period starts anew, because a reader must be able to finish when
// the version expires.
func TestSweepStartsAnew(t *testing.T) {
	t.Parallel()
	var s *Store
	noted := 0
	h := hooks{fs: vfs.OS{}, prepared: func() {
		if noted == 0 {
			r, err := s.Expire(t.Context(), &MaintainOptions{Keep: 100})
			if err != nil {
				t.Error(err)
			}
			noted += r.FilesWaiting
		}
	}}
	s, err := open(t.Context(), t.TempDir(), &Options{NoTail: true}, h)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // the test is over
	b := s.Bucket("")
	mustPut(t, b, "a", PutAppend, 1)
	if noted == 0 {
		t.Fatal("nothing was noted")
	}
	for _, drop := range []func() error{
		func() error { _, err := b.Put(t.Context(), "a", rowsOf(2), PutReplace, nil); return err },
		func() error { return b.Delete(t.Context(), "a") },
	} {
		tab, err := b.Table(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		r, err := tab.Scan(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := drop(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Expire(t.Context(), &MaintainOptions{Grace: -1}); err != nil {
			t.Fatal(err)
		}
		if !r.Next() || r.RecordBatch().NumRows() != 1 {
			t.Fatal(r.Err())
		}
		r.Release()
	}
}
