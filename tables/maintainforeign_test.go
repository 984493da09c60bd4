package tables_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestMaintainDeleteFiles merges some of the files that another program's delete files apply to. No deleted row may come
// back, and a second pass must find nothing to do.
func TestMaintainDeleteFiles(t *testing.T) {
	for _, kind := range []string{"positions", "deletion vectors", "equal rows", "equal rows last"} {
		t.Run(kind, func(t *testing.T) {
			s, err := tables.OpenHooked(t.Context(), t.TempDir(), &tables.Options{NoTail: true}, tables.Hooks{FS: vfs.OS{}, FileBytes: 40_000})
			tabletest.Succeed(t, err)
			t.Cleanup(func() { tabletest.Succeed(t, s.Close()) })
			b, engine := s.Bucket(""), tabletest.NewEngine(t, s, "", "t")
			want := tabletest.Sequence(0, 100_000)
			tabletest.Put(t, b, "t", tables.PutAppend, want...)
			for n := range int64(8) {
				tabletest.Put(t, b, "t", tables.PutAppend, 100_000+n)
				want = append(want, 100_000+n)
			}
			engine.MergeOnRead(map[string]int{"positions": 2, "deletion vectors": 3, "equal rows": 2, "equal rows last": 2}[kind])
			deleted := []int64{7, 100_002}
			if strings.HasPrefix(kind, "equal rows") {
				for range 6 {
					engine.DeleteEqual(oneColumn("n", deleted...), 1)
				}
			} else {
				engine.Delete(iceberg.IsIn(iceberg.Reference("n"), deleted...))
			}
			want = slices.DeleteFunc(want, func(n int64) bool { return slices.Contains(deleted, n) })
			if kind != "equal rows last" {
				tabletest.Put(t, b, "t", tables.PutAppend, 7)
				want = append(want, 7)
			}
			s.PostponedSince("t", time.Now().Add(-time.Hour)) // the engine has loaded the table
			r := tabletest.Maintain(t, s, nil)
			got, err := tabletest.ReadAll(t.Context(), b.Table("t"), nil)
			slices.Sort(got)
			slices.Sort(want)
			if err != nil || !slices.Equal(got, want) || r.FilesBefore < 8 {
				t.Errorf("Maintain = %+v: %d rows, error %v; want %d", r, len(got), err, len(want))
			}
			s.PostponedSince("t", time.Now().Add(-time.Hour))
			if again := tabletest.Maintain(t, s, nil); again != (tables.MaintainResult{}) {
				t.Errorf("the second pass = %+v, want nothing to do", again)
			}
			tabletest.Compact(t, s)
			got, err = tabletest.ReadAll(t.Context(), b.Table("t"), nil)
			slices.Sort(got)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("after Compact: %d rows, error %v; want %d", len(got), err, len(want))
			}
		})
	}
}
