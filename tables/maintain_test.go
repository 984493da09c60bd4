package tables_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestTooManyColumns checks that a table cannot get more columns than a fold can write, and that a table with almost as
// many can be folded. Long names make the limit low.
func TestTooManyColumns(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{Tail: partd.NewDict(), FoldAge: -1})
	wide := func(n int) array.RecordReader {
		fields := make([]arrow.Field, n)
		for i := range fields {
			fields[i] = arrow.Field{Name: fmt.Sprintf("%s%d", strings.Repeat("x", 10_000), i), Type: arrow.PrimitiveTypes.Int8, Nullable: true}
		}
		b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
		for _, f := range b.Fields() {
			f.AppendEmptyValue()
		}
		return tabletest.OneBatch(b.NewRecordBatch())
	}
	for _, mode := range []tables.PutMode{tables.PutAppend, tables.PutReplace, tables.PutError} {
		_, err := s.Bucket("").Table("t").Put(t.Context(), wide(100), mode, nil)
		if !errors.As(err, new(*tables.ArgumentError)) || !strings.Contains(err.Error(), "the 100 columns are too many") {
			t.Errorf("put with mode %v of 100 columns with long names: error %v, want an ArgumentError", mode, err)
		}
	}
	b := s.Bucket("")
	tabletest.PutRows(t, b, "t", wide(95), tables.PutAppend, nil)
	var changes []tables.ColumnChange
	for i := range 4 {
		changes = append(changes, tables.ColumnChange{Op: tables.AddColumn, Column: fmt.Sprintf("%s%d", strings.Repeat("y", 10_000), i), Type: "int64"})
	}
	if err := b.Table("t").Evolve(t.Context(), changes...); !errors.As(err, new(*tables.ArgumentError)) {
		t.Errorf("4 more columns: error %v, want an ArgumentError", err)
	}
	if r, err := s.Fold(t.Context(), nil); r.Rows != 1 || err != nil {
		t.Errorf("Fold = %d rows, error %v; want 1 row", r.Rows, err)
	}
}

func TestFoldFreesTailSpace(t *testing.T) {
	for _, background := range []bool{false, true} {
		t.Run(fmt.Sprintf("background=%t", background), func(t *testing.T) { foldFreesTailSpace(t, background) })
	}
}

func foldFreesTailSpace(t *testing.T, background bool) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	tailSize := func() (sum int64) {
		t.Helper()
		must.Do(t, fs.WalkDir(os.DirFS(filepath.Join(s.Dir(), "tail")), ".", func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				info, err := d.Info()
				sum += info.Size()
				return err
			}
			return err
		}))
		return sum
	}
	row := 0
	for range 5 {
		rows := make([]tick, 40_000)
		for i := range rows {
			rows[i], row = tick{int64(row), "a", int64(row * 7919), 0}, row+1
		}
		tabletest.PutRows(t, s.Bucket("b"), "t", ticksOf(rows, len(rows)), tables.PutAppend, nil)
	}
	if n := tailSize(); n < 5<<20 {
		t.Fatalf("before the fold, the tail has %d bytes, want at least 5 MiB for this test", n)
	}
	if background {
		must.Get(s.MaintainEach(t.Context(), "fold", nil, tables.Fold))(t) // like a fold in the background, which does not free space
	}
	tabletest.Fold(t, s)
	if n := tailSize(); n > 3<<20 { // the two write-ahead files have 1 MiB each
		t.Errorf("after the fold, the tail has %d bytes, want at most 3 MiB", n)
	}
}

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
			s := openHooked(t, t.TempDir(), &tables.Options{NoTail: true}, tables.Hooks{FS: fs})
			b, n := s.Bucket(""), int64(8)
			if name == "expire" {
				n = 3 // too few files to merge
			}
			tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(0, n)...)
			for i := range n {
				tabletest.Put(t, b, "t", tables.PutAppend, n+i)
			}
			must.Do(t, b.Table("t").SetSettings(t.Context(), settings))
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

// TestExpireAsideOfTail checks that expiry prepares its commit only once, without the table's lock, although the tail
// has rows.
func TestExpireAsideOfTail(t *testing.T) {
	t.Parallel()
	var written atomic.Int32
	fs := vfstest.Inject(vfs.OS{}, func(op vfstest.Op, path string) error {
		if op == vfstest.OpWrite && strings.HasSuffix(path, ".metadata.json") {
			written.Add(1)
		}
		return nil
	})
	s := openHooked(t, t.TempDir(), &tables.Options{FoldAge: -1}, tables.Hooks{FS: fs})
	for i := range int64(3) {
		tabletest.Fold(t, s)
		tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, i)
	}
	before := written.Load()
	if r, err := s.Expire(t.Context(), &tables.MaintainOptions{Keep: 1}); err != nil || r.Versions == 0 || written.Load() != before+1 {
		t.Errorf("Expire = %+v, %v, and wrote metadata %d times, want 1", r, err, written.Load()-before)
	}
	tabletest.WantRows(t, s.Bucket(""), "t", 0, 1, 2)
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

// TestMaintainAllPeriods appends to one of two periods whenever maintenance merges files. The other period must not
// wait.
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
		s := openHooked(t, dir, &tables.Options{NoTail: true}, tables.Hooks{OnPrepared: func() {
			merges++
			for range 6 {
				put(busy)
			}
		}})
		if r := tabletest.Maintain(t, s, nil); merges != 2 || r.FilesBefore < 16 || r.FilesAfter != 2 {
			t.Errorf("with appends to day %d: Maintain = %+v after %d merges; want at least 16 files merged into 2 in 2 merges", busy+1, r, merges)
		}
	}
}

// TestMaintainDeleteFiles merges some of the files that another program's delete files apply to. No deleted row may
// come back, and a second pass must find nothing to do.
func TestMaintainDeleteFiles(t *testing.T) {
	for _, kind := range []string{"positions", "deletion vectors", "equal rows", "equal rows last"} {
		t.Run(kind, func(t *testing.T) {
			s := openHooked(t, t.TempDir(), &tables.Options{NoTail: true}, tables.Hooks{FileBytes: 40_000})
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
			tabletest.WantRows(t, b, "t", want...)
		})
	}
}
