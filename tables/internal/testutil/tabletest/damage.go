package tabletest

import (
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/iceberg"
)

// Corruptions maps names to functions that damage a file with content b; other is the content of another file. A nil
// function means that the file is deleted.
var Corruptions = map[string]func(b, other []byte) []byte{
	"truncated":    func(b, _ []byte) []byte { return b[:len(b)/2] },
	"zeroed":       func(b, _ []byte) []byte { return make([]byte, len(b)) },
	"garbage":      func(b, _ []byte) []byte { return []byte(strings.Repeat("\xff{[", len(b)/3)) },
	"another file": func(_, other []byte) []byte { return other },
	"deleted":      nil,
}

// CorruptedStore returns a store of three tables, some with rows in the tail (not yet in data files), and an undamaged
// copy of the store. In the store, one file of table bad is damaged: a file of the given kind, at the path file.
func CorruptedStore(t *testing.T, kind string, corruption func(b, otherContent []byte) []byte) (s, copied *tables.Store, file string) {
	t.Helper()
	dir := t.TempDir()
	s = Open(t, dir, &tables.Options{FoldAge: -1})
	b := s.Bucket("one")
	for index, name := range []string{"bad", "good", "other"} {
		for i := range int64(2) {
			first := 2*i + 100*int64(index/2)
			Put(t, b, name, tables.PutAppend, first, first+1)
			if _, err := s.Fold(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"bad", "good"} {
		Put(t, b, name, tables.PutAppend, 4, 5)
	}
	files := TableFiles(t, s, "one", "bad")[kind]
	otherFiles := TableFiles(t, s, "one", "other")[kind]
	file = files[len(files)-1]
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(t.TempDir(), "good")
	if err := os.CopyFS(good, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	otherContent, err := os.ReadFile(otherFiles[len(otherFiles)-1])
	if err != nil {
		t.Fatal(err)
	}
	if corruption == nil {
		Damage(t, file, nil)
	} else {
		Damage(t, file, func(b []byte) []byte { return corruption(b, otherContent) })
	}
	return Open(t, dir, &tables.Options{FoldAge: -1}), Open(t, good, nil), file
}

// ExecInCatalog runs an SQL statement on the catalog, as another program would.
func ExecInCatalog(t *testing.T, dir, q string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // only the statement matters
	if _, err := db.Exec(q, args...); err != nil {
		t.Fatal(err)
	}
}

// ListFiles returns the paths of a directory's files, with their modification times.
func ListFiles(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := d.Info()
		all = append(all, path+i.ModTime().String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Paths returns the paths of the files below dir whose paths, relative to dir, contain part. A directory that does not
// exist has none.
func Paths(t testing.TB, dir, part string) (paths []string) {
	t.Helper()
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	must.Do(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(strings.TrimPrefix(path, dir), part) {
			paths = append(paths, path)
		}
		return err
	}))
	return paths
}

// VerifyAll calls Verify, and returns its findings and result.
func VerifyAll(t testing.TB, s *tables.Store, o tables.VerifyOptions) ([]tables.Finding, tables.VerifyResult) {
	t.Helper()
	var findings []tables.Finding
	o.Report = func(f tables.Finding) { findings = append(findings, f) }
	r, err := s.Verify(t.Context(), &o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Damaged+r.Repaired+r.Unverified != len(findings) {
		t.Errorf("Verify returned counts %+v, but reported %+v", r, findings)
	}
	return findings, r
}

// WantIntact checks that Verify finds no damage in a store.
func WantIntact(t testing.TB, s *tables.Store) {
	t.Helper()
	if findings, _ := VerifyAll(t, s, tables.VerifyOptions{}); len(findings) > 0 {
		t.Errorf("Verify reported %+v, want none", findings)
	}
}

// TableFiles returns the paths of a table's files, by kind: metadata, list, manifest, data.
func TableFiles(t testing.TB, s *tables.Store, bucket, name string) map[string][]string {
	t.Helper()
	tb, err := iceberg.Load(t.Context(), s.Bucket(bucket).Table(name), nil)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]string{}
	add := func(kind, location string) {
		files[kind] = append(files[kind], strings.TrimPrefix(location, "file://"))
	}
	add("metadata", tb.MetadataLocation())
	in, err := tb.FS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range tb.Metadata().Snapshots() {
		add("list", v.ManifestList)
		manifests, err := v.Manifests(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range manifests {
			add("manifest", m.FilePath())
			for e, err := range m.Entries(in, true) {
				if err != nil {
					t.Fatal(err)
				}
				add("data", e.DataFile().FilePath())
			}
		}
	}
	return files
}

var Damages = map[string]func(b []byte) []byte{
	"flipped":   func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
	"truncated": func(b []byte) []byte { return b[:len(b)-1] },
	"longer":    func(b []byte) []byte { return append(b, 0) },
	"empty":     func([]byte) []byte { return nil },
	"missing":   nil,
}

// Damage changes a file with a function, or removes it if the function is nil.
func Damage(t testing.TB, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil && change == nil {
		err = os.Remove(path)
	} else if err == nil {
		err = os.WriteFile(path, change(b), 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func FilesOf(t testing.TB, b *tables.Bucket, name string) (paths []string) {
	t.Helper()
	table := b.Table(name)
	m, err := table.ScanPlan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, f := range m.Files {
		paths = append(paths, f.Path)
	}
	return paths
}
