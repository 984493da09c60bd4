package tables_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestVerifyManifest checks that Verify compares the row counts, bounds and sizes in a manifest
// with the data, even if all checksums are correct.
func TestVerifyManifest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		change     func(b *iceberg.DataFileBuilder, f iceberg.DataFile) iceberg.DataFile
	}{
		{"rows", `the file has 3 rows, but its manifest says 5`, nil},
		{"lower", `column "n" has values outside`, func(b *iceberg.DataFileBuilder, f iceberg.DataFile) iceberg.DataFile {
			lower := f.LowerBoundValues()
			lower[1] = []byte{2, 0, 0, 0, 0, 0, 0, 0}
			return b.LowerBoundValues(lower).Build()
		}},
		{"upper", `column "s" has values outside`, func(b *iceberg.DataFileBuilder, f iceberg.DataFile) iceberg.DataFile {
			upper := f.UpperBoundValues()
			upper[2] = []byte("row 2")
			return b.UpperBoundValues(upper).Build()
		}},
		{"size", `but the table's metadata says 77`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
			tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, 1, 2, 3)
			ctx := t.Context()
			cur := must.Get(s.Catalog().Load(ctx, tables.DefaultNamespace, "t"))(t)
			io := s.Catalog().NewIO()
			files := must.Get(datafile.Files(ctx, cur))(t)
			f := files[0]
			b := must.Get(datafile.Rebuild(cur.Spec(), f, f.FilePath()))(t)
			wrong := b.Build()
			rows, size := f.Count(), f.FileSizeBytes()
			switch c.name {
			case "rows":
				rows = 5
			case "size":
				size = 77
			default:
				wrong = c.change(b, f)
			}
			if rows != f.Count() || size != f.FileSizeBytes() {
				nb := must.Get(iceberg.NewDataFileBuilder(cur.Spec(), f.ContentType(), f.FilePath(), f.FileFormat(), nil, nil, nil, rows, size))(t)
				wrong = nb.Build()
			}
			staged := s.Catalog().Staged(tables.DefaultNamespace, "wrong", cur.Metadata(), "", io)
			meta := must.Get(commit.AddFiles(ctx, staged, []iceberg.DataFile{wrong}, nil))(t)
			must.Do(t, s.Catalog().Commit(ctx, nil, &icecat.Change{Namespace: tables.DefaultNamespace, Name: "t", Base: cur, New: meta, IOs: []*icecat.FileIO{io}}))
			// The previous version's manifest has the correct entry of the same file.
			findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{})
			if len(findings) != 1 || findings[0].State != tables.Damaged || !strings.Contains(findings[0].Problem, c.want) || findings[0].Table != "t" {
				t.Errorf("Verify reported %+v, want one damaged file with the problem %q", findings, c.want)
			}
		})
	}
}

// TestVerifyDuringSweep checks that Verify reports no damage if another process commits, and removes the replaced
// files, while Verify reads a table.
func TestVerifyDuringSweep(t *testing.T) {
	t.Parallel()
	for _, changed := range []string{"a", "b"} {
		dir := t.TempDir()
		other := tabletest.Open(t, dir, &tables.Options{NoTail: true})
		for i := range int64(3) {
			for _, name := range []string{"a", "b"} {
				tabletest.PutRows(t, other.Bucket(""), name, tabletest.Rows(i), tables.PutReplace, nil)
			}
		}
		var armed atomic.Bool
		fs := vfstest.Inject(vfs.OS{}, func(_ vfstest.Op, path string) error {
			if strings.HasSuffix(path, ".parquet") && armed.CompareAndSwap(true, false) {
				tabletest.PutRows(t, other.Bucket(""), changed, tabletest.Rows(4), tables.PutReplace, nil)
				for range 2 {
					tabletest.Maintain(t, other, &tables.MaintainOptions{Keep: 1, Grace: -1})
				}
			}
			return nil
		})
		s := openHooked(t, dir, &tables.Options{NoTail: true}, tables.Hooks{FS: fs})
		armed.Store(true)
		_, err := s.Verify(t.Context(), &tables.VerifyOptions{Report: func(f tables.Finding) { t.Errorf("table %s changed: %+v", changed, f) }})
		if err != nil || armed.Load() {
			t.Errorf("table %s changed: error %v; the change is outstanding: %v", changed, err, armed.Load())
		}
	}
}

// TestVerifyEachFile damages each file of a store. Verify must report and repair every damaged file that is needed,
// including older metadata, and ignore the others.
func TestVerifyEachFile(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("b")
	for i := range int64(3) {
		tabletest.Put(t, b, "committed", tables.PutReplace, i)
		tabletest.Put(t, b, "folded", tables.PutAppend, i)
		tabletest.Fold(t, s)
		if i == 1 {
			tabletest.Snapshot(t, b, "snap")
		}
	}
	must.Do(t, b.Table("folded").Evolve(ctx, tables.ColumnChange{Op: "rename", Column: "s", To: "text"}))
	needed := neededFiles(t, s)
	must.Do(t, s.Close())
	good := filepath.Join(t.TempDir(), "good")
	must.Do(t, os.CopyFS(good, os.DirFS(s.Dir())))
	copied := tabletest.Open(t, good, nil)
	files, damagedMetadata := 0, 0
	err := filepath.WalkDir(filepath.Join(s.Dir(), "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		for _, damageName := range []string{"flipped", "truncated", "zeroed", "missing"} {
			before, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			f := tabletest.Damages[damageName]
			if damageName == "zeroed" {
				f = func(b []byte) []byte { return make([]byte, len(b)) }
			}
			tabletest.Damage(t, path, f)
			s, err := tables.Open(ctx, s.Dir(), &tables.Options{FoldAge: -1})
			if err != nil {
				return err
			}
			findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: copied.Copies()})
			if err := s.Close(); err != nil {
				return err
			}
			if !needed[path] {
				if len(findings) > 0 {
					return fmt.Errorf("unneeded file %s: Verify reported %+v, want nothing", damageName, findings)
				}
				if err := os.WriteFile(path, before, 0o666); err != nil {
					return err
				}
				continue
			}
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(after, before) || len(findings) != 1 || findings[0].File != path || findings[0].State != tables.Repaired {
				return fmt.Errorf("%s %s: Verify reported %+v, want one repaired file; error: %v", damageName, path, findings, err)
			}
			if strings.HasSuffix(path, ".json") {
				damagedMetadata++
			}
		}
		return nil
	})
	if err != nil || files < 20 || damagedMetadata < 20 {
		t.Errorf("checked %d files and %d damaged metadata files, want at least 20 of each; error: %v", files, damagedMetadata, err)
	}
}

// neededFiles returns the files that a store's tables and snapshots refer to. It omits metadata that no newer metadata
// lists as previous, and metadata of tables created in the tail, which was never synced.
func neededFiles(t *testing.T, s *tables.Store) map[string]bool {
	t.Helper()
	ctx, needed := t.Context(), map[string]bool{}
	used := must.Get(s.Catalog().References(ctx))(t)
	for path := range used {
		needed[path] = true
	}
	states, err := s.Catalog().States(ctx, "b")
	if err != nil || len(states) != 4 {
		t.Fatalf("States = %+v, %v; want 4 elements", states, err)
	}
	for _, l := range states {
		after := must.Get(s.Catalog().LoadAt(ctx, "b", l.Name, l.Location))(t)
		for old := range after.Metadata().PreviousFiles() {
			path, _, err := s.Catalog().Local(old.MetadataFile)
			must.Do(t, err)
			_, synced, err := s.Catalog().FileAt(ctx, old.MetadataFile)
			must.Do(t, err)
			needed[path] = needed[path] || synced
		}
	}
	return needed
}

// TestVerifyUnsyncedMetadata loses the first metadata file of a table that was created in the tail, as a power loss
// could, because the file was never synced. It is no damage, whether the store has snapshots, has none, or had some.
func TestVerifyUnsyncedMetadata(t *testing.T) {
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	create := func(bucket string) {
		tabletest.Put(t, s.Bucket(bucket), "t", tables.PutAppend, 1)
		tabletest.Fold(t, s)
	}
	lose := func(when string) {
		t.Helper()
		first := tabletest.Paths(t, filepath.Join(s.Dir(), "data"), "/metadata/00000-")
		for _, path := range first {
			must.Do(t, os.Remove(path))
		}
		if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(first) == 0 || len(findings) > 0 {
			t.Errorf("%s, lost %q: Verify reported %+v, want none", when, first, findings)
		}
	}
	create("one")
	lose("without snapshots")
	tabletest.Snapshot(t, s.Bucket("one"), "")
	create("two")
	lose("with a snapshot")
	must.Do(t, s.Bucket("one").DeleteSnapshots(t.Context()))
	must.Get(s.Expire(t.Context(), &tables.MaintainOptions{Keep: 5}))(t)
	lose("after the snapshot")
}
