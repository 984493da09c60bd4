package tables

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
	"testing"

	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/icecat"
)

// verified returns what Verify found, and its result.
func verified(t testing.TB, s *Store, o VerifyOptions) ([]Finding, VerifyResult) {
	t.Helper()
	var found []Finding
	o.Report = func(f Finding) { found = append(found, f) }
	r, err := s.Verify(t.Context(), &o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Damaged+r.Repaired+r.Unverified != len(found) {
		t.Errorf("%+v, but %+v", r, found)
	}
	return found, r
}

// partsOf returns the files of a table, by kind: metadata, list, manifest, data.
func partsOf(t testing.TB, s *Store, bucket, name string) map[string][]string {
	t.Helper()
	tb, err := s.cat.Load(t.Context(), namespaceOf(bucket), name)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]string{}
	add := func(kind, location string) {
		path, _, err := s.cat.Local(location)
		if err != nil {
			t.Fatal(err)
		}
		files[kind] = append(files[kind], path)
	}
	add("metadata", tb.MetadataLocation())
	for _, v := range tb.Metadata().Snapshots() {
		add("list", v.ManifestList)
		manifests, err := v.Manifests(s.cat.NewIO())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range manifests {
			add("manifest", m.FilePath())
			for e, err := range m.Entries(s.cat.NewIO(), true) {
				if err != nil {
					t.Fatal(err)
				}
				add("data", e.DataFile().FilePath())
			}
		}
	}
	return files
}

var damages = map[string]func(b []byte) []byte{
	"flipped":   func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
	"truncated": func(b []byte) []byte { return b[:len(b)-1] },
	"longer":    func(b []byte) []byte { return append(b, 0) },
	"empty":     func([]byte) []byte { return nil },
	"missing":   nil,
}

func damage(t testing.TB, path string, how func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil && how == nil {
		err = os.Remove(path)
	} else if err == nil {
		err = os.WriteFile(path, how(b), 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestVerify checks that every damaged file is found, named with its table, and repaired
// from a copy of the directory. From a copied store, only data files can be used.
func TestVerify(t *testing.T) {
	t.Parallel()
	s := fullStore(t)
	if _, err := s.Bucket("one").Snapshot(t.Context(), "before"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s.Bucket("one"), "twice", PutReplace, 1)
	if err := s.Bucket("one").Delete(t.Context(), "plain"); err != nil { // the snapshot still has it
		t.Fatal(err)
	}
	want := stateOf(t, s)
	if found, r := verified(t, s, VerifyOptions{}); len(found) > 0 || r.Tables != 4 || r.Files < 20 || r.Bytes == 0 {
		t.Fatal(found, r)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(t.TempDir(), "good")
	if err := os.CopyFS(good, os.DirFS(s.Dir())); err != nil {
		t.Fatal(err)
	}
	s, copied := mustOpen(t, s.Dir(), nil), mustOpen(t, good, nil)
	for kind, paths := range partsOf(t, s, "one", "twice") {
		for how, f := range damages {
			path := paths[0] // the data file belongs to an old version
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			damage(t, path, f)
			found, _ := verified(t, s, VerifyOptions{})
			if len(found) != 1 || found[0].File != path || found[0].Table != "twice" || found[0].Bucket != "one" || found[0].State != Damaged {
				t.Fatalf("%s %s: %+v", kind, how, found)
			}
			if found, _ := verified(t, s, VerifyOptions{Repair: copied.Copies()}); len(found) != 1 || found[0].State != Repaired {
				t.Fatalf("%s %s: %+v", kind, how, found)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, before) {
				t.Fatal(kind, how, err)
			}
			if found, _ := verified(t, s, VerifyOptions{}); len(found) != 0 {
				t.Fatalf("%s %s: %+v", kind, how, found)
			}
		}
	}
	wantState(t, s, want)
	// A copy that is itself damaged is not used, and leaves no file.
	data := partsOf(t, s, "one", "twice")["data"]
	path := data[len(data)-1] // the other data files are equal, so they could repair each other
	their, err := filepath.Rel(s.Dir(), path)
	if err != nil {
		t.Fatal(err)
	}
	damage(t, path, damages["truncated"])
	damage(t, filepath.Join(good, their), damages["flipped"])
	names := func() (all []string) {
		_ = filepath.WalkDir(filepath.Join(s.Dir(), "data"), func(path string, _ fs.DirEntry, err error) error {
			all = append(all, path)
			return err
		})
		return all
	}
	before := names()
	found, _ := verified(t, s, VerifyOptions{Repair: copied.Copies()})
	if len(found) != 1 || found[0].State != Damaged || !strings.Contains(found[0].Problem, "not repaired") || !strings.Contains(found[0].Problem, their) {
		t.Errorf("%+v", found)
	}
	lying := func(_ context.Context, _ File) (io.ReadCloser, error) { return os.Open(filepath.Join(good, their)) } // a source with the wrong file
	found, _ = verified(t, s, VerifyOptions{Repair: lying})
	if len(found) != 1 || found[0].State != Damaged || !strings.Contains(found[0].Problem, "not repaired: "+icecat.ErrContent.Error()) {
		t.Errorf("%+v", found)
	}
	if !slices.Equal(names(), before) {
		t.Error("a refused copy left files")
	}
}

// TestVerifyManifest checks that a manifest's claims about rows and bounds are compared
// with the data, even if all checksums are right.
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
			s := mustOpen(t, t.TempDir(), &Options{NoTail: true})
			mustPut(t, s.Bucket(""), "t", PutAppend, 1, 2, 3)
			ctx := t.Context()
			cur, err := s.cat.Load(ctx, defaultNamespace, "t")
			if err != nil {
				t.Fatal(err)
			}
			io := s.cat.NewIO()
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
			staged := s.cat.Staged(defaultNamespace, "wrong", cur.Metadata(), "", io)
			meta, err := commit.AddFiles(ctx, staged, []iceberg.DataFile{wrong}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.cat.Commit(ctx, nil, &icecat.Change{Namespace: defaultNamespace, Name: "t", Base: cur, New: meta, IOs: []*icecat.FileIO{io}}); err != nil {
				t.Fatal(err)
			}
			// The previous version has the correct entry of the same file.
			found, _ := verified(t, s, VerifyOptions{})
			if len(found) != 1 || found[0].State != Damaged || !strings.Contains(found[0].Problem, c.want) || found[0].Table != "t" {
				t.Errorf("%+v", found)
			}
		})
	}
}

// TestVerifyForeign checks that files of other programs are unverified, or damaged if
// unreadable.
func TestVerifyForeign(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir(), &Options{NoTail: true})
	mustPut(t, s.Bucket(""), "t", PutAppend, 1, 2, 3)
	parts := partsOf(t, s, "", "t")
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
	found, r := verified(t, s, VerifyOptions{Repair: s.Copies()})
	if len(found) != 4 || r.Unverified != 4 || found[0].State != Unverified {
		t.Errorf("%+v", found)
	}
	for _, kind := range []string{"data", "manifest", "list", "metadata"} {
		for how, f := range damages {
			if how == "flipped" || kind == "manifest" && how == "longer" || kind == "list" && how == "longer" {
				continue // without a checksum, this damage is undetectable
			}
			before, err := os.ReadFile(parts[kind][0])
			if err != nil {
				t.Fatal(err)
			}
			damage(t, parts[kind][0], f)
			found, r := verified(t, s, VerifyOptions{Repair: s.Copies()})
			last := found[len(found)-1]
			if r.Damaged != 1 || last.State != Damaged || last.File != parts[kind][0] || last.Table != "t" {
				t.Errorf("%s %s: %+v", kind, how, found)
			}
			if err := os.WriteFile(parts[kind][0], before, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
}
