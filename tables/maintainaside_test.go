package tables_test

import (
	"context"
	"fmt"
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
			if r := tabletest.Maintain(t, s, nil); onWrite.Load() != nil || r.Tables != 1 {
				t.Errorf("Maintain = %+v, and no put came in between", r)
			}
			tabletest.WantRows(t, b, "t", tabletest.Sequence(0, 2*n+1)...)
			info, err := b.Table("t").Info(t.Context())
			if report, verr := s.Verify(t.Context(), nil); err != nil || verr != nil || info.Rows != 2*n+1 || name == "merge" && info.Files != 2 {
				t.Errorf("info %+v, error %v; Verify = %+v, %v; want %d rows", info, err, report, verr, 2*n+1)
			}
		})
	}
}

// TestEvolveDuringMerge merges files between the rewrite of a table's files for other columns and its commit.
func TestEvolveDuringMerge(t *testing.T) {
	t.Parallel()
	b := tabletest.BucketWithoutTail(t)
	for n := range int64(8) {
		tabletest.Put(t, b, "t", tables.PutAppend, n)
	}
	changing, _ := countingAttempts(t, b, func() error {
		_, err := b.Store().Maintain(t.Context(), nil)
		tabletest.Put(t, b, "t", tables.PutAppend, 8)
		return err
	})
	err := changing.Store().Update(t.Context(), func(txn *tables.Txn) error {
		return txn.Evolve(b.Name(), "t", tables.ColumnChange{Op: tables.WidenColumn, Column: "n", Type: "float64"})
	})
	if err != nil {
		t.Fatal(err)
	}
	info, err := b.Table("t").Info(t.Context())
	if err != nil || info.Rows != 9 {
		t.Errorf("the table has %d rows, error %v; want 9", info.Rows, err)
	}
}

// TestMaintainClockSetForward checks that no version expires early because somebody has set the clock forward.
func TestMaintainClockSetForward(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	for i := range int64(3) {
		tabletest.Put(t, b, "t", tables.PutAppend, i)
	}
	time.Sleep(2 * time.Millisecond)
	for _, c := range []struct {
		ahead time.Duration
		want  int
	}{{time.Hour, 3}, {-time.Hour, 1}} { // forward, and back to the right time
		s.SetClock(c.ahead)
		tabletest.Maintain(t, s, &tables.MaintainOptions{OlderThan: time.Millisecond})
		s.RetryExpiry("t")
		if n := tabletest.MaintenanceOf(t, b, "t").Versions; n != c.want {
			t.Errorf("after the clock was set by %v: %d versions, want %d", c.ahead, n, c.want)
		}
	}
}

// TestMaintainAllPeriods appends to one of two periods whenever maintenance merges files. The other period must not wait.
func TestMaintainAllPeriods(t *testing.T) {
	t.Parallel()
	for busy := range 2 {
		dir, n := t.TempDir(), 0
		other := tabletest.Open(t, dir, &tables.Options{NoTail: true})
		put := func(day int) {
			n++
			rows := fmt.Sprintf(`{"at": "2026-01-%02dT00:00:%02dZ", "n": %d}`, day+1, n, n)
			tabletest.PutRows(t, other.Bucket(""), "t", tabletest.JSONRows(t, "at timestamp[us, tz=UTC]; n int64", rows), tables.PutAppend,
				&tables.PutOptions{Settings: &tables.Settings{Time: "at", Partition: tables.PartitionDay}})
		}
		for i := range 16 {
			put(i % 2)
		}
		merges := 0
		s, err := tables.OpenHooked(t.Context(), dir, &tables.Options{NoTail: true}, tables.Hooks{FS: vfs.OS{}, OnPrepared: func() {
			merges++
			for range 6 {
				put(busy)
			}
		}})
		tabletest.Succeed(t, err)
		t.Cleanup(func() { tabletest.Succeed(t, s.Close()) })
		if r := tabletest.Maintain(t, s, nil); merges != 2 || r.FilesBefore < 16 || r.FilesAfter != 2 {
			t.Errorf("with appends to day %d: Maintain = %+v after %d merges; want at least 16 files merged into 2 in 2 merges", busy+1, r, merges)
		}
	}
}
