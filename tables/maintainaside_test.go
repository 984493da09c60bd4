package tables_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestMaintainHoldsNoLock puts a row while maintenance writes the manifests or metadata of a commit. The put must not
// wait for the commit.
func TestMaintainHoldsNoLock(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]tables.Settings{"merge": {}, "expire": {KeepVersions: 1}} {
		t.Run(name, func(t *testing.T) {
			var onWrite atomic.Pointer[func()]
			fs := vfstest.Inject(vfs.OS{}, func(op vfstest.Op, path string) error {
				if f := onWrite.Load(); op == vfstest.OpWrite && strings.Contains(path, "/metadata/") && f != nil && onWrite.CompareAndSwap(f, nil) {
					(*f)()
				}
				return nil
			})
			s, err := tables.OpenHooked(t.Context(), t.TempDir(), &tables.Options{NoTail: true}, tables.Hooks{FS: fs})
			tabletest.Succeed(t, err)
			t.Cleanup(func() { tabletest.Succeed(t, s.Close()) })
			b, n := s.Bucket(""), int64(8)
			if name == "expire" {
				n = 3 // too few files to merge
			}
			tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(0, n)...)
			for i := range n {
				tabletest.Put(t, b, "t", tables.PutAppend, n+i)
			}
			tabletest.Succeed(t, b.Table("t").SetSettings(t.Context(), settings))
			put := func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if _, err := b.Table("t").Put(ctx, tabletest.Rows(2*n), tables.PutAppend, nil); err != nil {
					t.Errorf("put during the commit: %v", err)
				}
			}
			onWrite.Store(&put)
			if r := maintain(t, s, nil); onWrite.Load() != nil || r.Tables != 1 {
				t.Errorf("Maintain = %+v, and no put came in between", r)
			}
			tabletest.WantRows(t, b, "t", tabletest.Sequence(0, 2*n+1)...)
		})
	}
}
