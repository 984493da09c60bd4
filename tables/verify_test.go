package tables_test

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestVerify checks that Verify finds every damaged file, names its table, and repairs it from a copy of the directory.
func TestVerify(t *testing.T) {
	t.Parallel()
	s := tabletest.FullStore(t)
	if _, err := s.Bucket("one").Snapshot(t.Context(), "before"); err != nil {
		t.Fatal(err)
	}
	tabletest.Put(t, s.Bucket("one"), "twice", tables.PutReplace, 1)
	if err := s.Bucket("one").Delete(t.Context(), "plain"); err != nil { // the snapshot still has it
		t.Fatal(err)
	}
	want := tabletest.StateOf(t, s)
	if findings, r := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) > 0 || r.Tables != 4 || r.Files < 20 || r.Bytes == 0 {
		t.Fatalf("Verify reported %+v with result %+v, want no findings, Tables 4, Files at least 20 and Bytes above 0", findings, r)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(t.TempDir(), "good")
	if err := os.CopyFS(good, os.DirFS(s.Dir())); err != nil {
		t.Fatal(err)
	}
	s, copied := tabletest.Open(t, s.Dir(), nil), tabletest.Open(t, good, nil)
	for kind, paths := range tabletest.TableFiles(t, s, "one", "twice") {
		for damageName, f := range tabletest.Damages {
			path := paths[0] // the data file belongs to an old version
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			tabletest.Damage(t, path, f)
			findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{})
			if len(findings) != 1 || findings[0].File != path || findings[0].Table != "twice" || findings[0].Bucket != "one" || findings[0].State != tables.Damaged {
				t.Fatalf("%s %s: Verify reported %+v, want one damaged file of table twice", kind, damageName, findings)
			}
			if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: copied.Copies()}); len(findings) != 1 || findings[0].State != tables.Repaired {
				t.Fatalf("%s %s: Verify reported %+v, want one repaired file", kind, damageName, findings)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, before) {
				t.Fatalf("%s %s: the repaired file differs from the original; error: %v", kind, damageName, err)
			}
			if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) != 0 {
				t.Fatalf("%s %s: Verify after the repair reported %+v, want nothing", kind, damageName, findings)
			}
		}
	}
	tabletest.WantState(t, s, want)
	// A damaged copy is not used for a repair, and leaves no file.
	data := tabletest.TableFiles(t, s, "one", "twice")["data"]
	path := data[len(data)-1] // the other data files are equal, so they could repair each other
	relPath, err := filepath.Rel(s.Dir(), path)
	if err != nil {
		t.Fatal(err)
	}
	tabletest.Damage(t, path, tabletest.Damages["truncated"])
	tabletest.Damage(t, filepath.Join(good, relPath), tabletest.Damages["flipped"])
	listPaths := func() (all []string) {
		_ = filepath.WalkDir(filepath.Join(s.Dir(), "data"), func(path string, _ fs.DirEntry, err error) error {
			all = append(all, path)
			return err
		})
		return all
	}
	before := listPaths()
	findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: copied.Copies()})
	if len(findings) != 1 || findings[0].State != tables.Damaged || !strings.Contains(findings[0].Problem, "not repaired") || !strings.Contains(findings[0].Problem, relPath) {
		t.Errorf("Verify reported %+v, want a damaged file that was not repaired", findings)
	}
	wrongSource := func(_ context.Context, _ tables.File) (io.ReadCloser, error) {
		return os.Open(filepath.Join(good, relPath))
	}
	findings, _ = tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: wrongSource})
	if len(findings) != 1 || findings[0].State != tables.Damaged || !strings.Contains(findings[0].Problem, "not repaired: "+icecat.ErrContent.Error()) {
		t.Errorf("Verify reported %+v, want a damaged file that was not repaired because of ErrContent", findings)
	}
	if !slices.Equal(listPaths(), before) {
		t.Error("a rejected copy left files in the data directory")
	}
}

// TestVerifyManifest checks that Verify compares the row counts, bounds and sizes in a manifest
// with the data, even if all checksums are correct.
func TestVerifyManifest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		change     func(b *iceberg.DataFileBuilder, f iceberg.DataFile) iceberg.DataFile
	}{
		{"rows", `it has 3 rows, but its manifest says 5`, nil},
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
			cur, err := s.Catalog().Load(ctx, tables.DefaultNamespace, "t")
			if err != nil {
				t.Fatal(err)
			}
			io := s.Catalog().NewIO()
			files, err := datafile.Files(ctx, cur)
			if err != nil {
				t.Fatal(err)
			}
			f := files[0]
			b, err := datafile.Rebuild(cur.Spec(), f, f.FilePath())
			if err != nil {
				t.Fatal(err)
			}
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
				nb, err := iceberg.NewDataFileBuilder(cur.Spec(), f.ContentType(), f.FilePath(), f.FileFormat(), nil, nil, nil, rows, size)
				if err != nil {
					t.Fatal(err)
				}
				wrong = nb.Build()
			}
			staged := s.Catalog().Staged(tables.DefaultNamespace, "wrong", cur.Metadata(), "", io)
			meta, err := commit.AddFiles(ctx, staged, []iceberg.DataFile{wrong}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Catalog().Commit(ctx, nil, &icecat.Change{Namespace: tables.DefaultNamespace, Name: "t", Base: cur, New: meta, IOs: []*icecat.FileIO{io}}); err != nil {
				t.Fatal(err)
			}
			// The previous version's manifest has the correct entry of the same file.
			findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{})
			if len(findings) != 1 || findings[0].State != tables.Damaged || !strings.Contains(findings[0].Problem, c.want) || findings[0].Table != "t" {
				t.Errorf("Verify reported %+v, want one damaged file with the problem %q", findings, c.want)
			}
		})
	}
}

// TestVerifyForeign checks that Verify reports files from other programs as unverified, or as damaged if they are
// unreadable.
func TestVerifyForeign(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, 1, 2, 3)
	parts := tabletest.TableFiles(t, s, "", "t")
	db, err := sql.Open("sqlite", filepath.Join(s.Dir(), "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // the test is over
	for _, kind := range []string{"metadata", "list", "manifest", "data"} {
		if _, err := db.Exec(`DELETE FROM partd_files WHERE path='file://' || ?`, parts[kind][0]); err != nil {
			t.Fatal(err)
		}
	}
	findings, r := tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: s.Copies()})
	if len(findings) != 4 || r.Unverified != 4 || findings[0].State != tables.Unverified {
		t.Errorf("Verify reported %+v, want 4 unverified files", findings)
	}
	for _, kind := range []string{"data", "manifest", "list", "metadata"} {
		for damageName, f := range tabletest.Damages {
			if damageName == "flipped" || kind == "manifest" && damageName == "longer" || kind == "list" && damageName == "longer" {
				continue // without a checksum, this damage is undetectable
			}
			before, err := os.ReadFile(parts[kind][0])
			if err != nil {
				t.Fatal(err)
			}
			tabletest.Damage(t, parts[kind][0], f)
			findings, r := tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: s.Copies()})
			last := findings[len(findings)-1]
			if r.Damaged != 1 || last.State != tables.Damaged || last.File != parts[kind][0] || last.Table != "t" {
				t.Errorf("%s %s: Verify reported %+v, want one damaged file", kind, damageName, findings)
			}
			if err := os.WriteFile(parts[kind][0], before, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestVerifyDuringSweep checks that Verify reports no damage if another process commits, and removes the replaced files,
// while Verify reads a table.
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
		s, err := tables.OpenHooked(t.Context(), dir, &tables.Options{NoTail: true}, tables.Hooks{FS: fs})
		tabletest.Succeed(t, err)
		t.Cleanup(func() { tabletest.Succeed(t, s.Close()) })
		armed.Store(true)
		_, err = s.Verify(t.Context(), &tables.VerifyOptions{Report: func(f tables.Finding) { t.Errorf("table %s changed: %+v", changed, f) }})
		if err != nil || armed.Load() {
			t.Errorf("table %s changed: error %v; the change is outstanding: %v", changed, err, armed.Load())
		}
	}
}
