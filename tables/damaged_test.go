package tables

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/logstore"
)

// harms are what may become of a file; other is another file's content.
var harms = map[string]func(b, other []byte) []byte{
	"truncated": func(b, _ []byte) []byte { return b[:len(b)/2] },
	"zeroed":    func(b, _ []byte) []byte { return make([]byte, len(b)) },
	"garbage":   func(b, _ []byte) []byte { return []byte(strings.Repeat("\xff{[", len(b)/3)) },
	"another's": func(_, other []byte) []byte { return other },
	"deleted":   nil,
}

// harmed returns stores with three tables that have rows in files and in the tail; one
// of the files of table bad was harmed, while the store was closed.
func harmed(t *testing.T, kind string, how func(b, other []byte) []byte) (s, copied *Store, file string) {
	t.Helper()
	dir := t.TempDir()
	s = mustOpen(t, dir, &Options{FoldAge: -1})
	b := s.Bucket("one")
	for at, name := range []string{"bad", "good", "other"} {
		for i := range int64(2) {
			first := 2*i + 100*int64(at/2)
			mustPut(t, b, name, Append, first, first+1)
			if _, err := s.Fold(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"bad", "good"} {
		mustPut(t, b, name, Append, 4, 5)
	}
	files := partsOf(t, s, "one", "bad")[kind]
	others := partsOf(t, s, "one", "other")[kind]
	file = files[len(files)-1]
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(t.TempDir(), "good")
	if err := os.CopyFS(good, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(others[len(others)-1])
	if err != nil {
		t.Fatal(err)
	}
	if how == nil {
		damage(t, file, nil)
	} else {
		damage(t, file, func(b []byte) []byte { return how(b, other) })
	}
	return mustOpen(t, dir, &Options{FoldAge: -1}), mustOpen(t, good, nil), file
}

// A table with damaged metadata is refused alone, by its name; all else works, and the
// table is what it was once it is repaired, with its rows in the tail.
func TestOpenDamaged(t *testing.T) {
	t.Parallel()
	for how, f := range harms {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s, copied, file := harmed(t, "metadata", f)
			b := s.Bucket("one")
			wantRows(t, b, "good", 0, 1, 2, 3, 4, 5)
			mustPut(t, b, "good", Append, 6)
			refused := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, ErrDamaged) {
					t.Fatalf("%s: %v", what, err)
				}
				for _, part := range []string{file, "bad", "verify --repair-from"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%s: %q does not say %q", what, err, part)
					}
				}
				if errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s: %q says that the table is not there", what, err)
				}
			}
			_, _, err := read(ctx, b, "bad")
			refused("read", err)
			for _, m := range []PutMode{Append, Replace, Error} {
				_, err = b.Put(ctx, "bad", rowsOf(9), m, nil)
				refused("put", err)
			}
			_, err = b.Upsert(ctx, "bad", rowsOf(9), &UpsertOptions{Keys: []string{"n"}})
			refused("upsert", err)
			refused("evolve", b.Evolve(ctx, "bad", ColumnChange{Op: "drop", Column: "s"}))
			// Each goes on with the others, and tells of the damaged one.
			r, err := s.Fold(ctx, nil)
			refused("fold", err)
			if r.Rows != 3 {
				t.Errorf("%+v", r)
			}
			r, err = s.Compact(ctx, nil)
			refused("compact", err)
			if r.Tables != 2 {
				t.Errorf("%+v", r)
			}
			r, err = s.Expire(ctx, &MaintainOptions{Grace: -1})
			refused("expire", err)
			if r.Tables != 2 || r.FilesRemoved != 0 {
				t.Errorf("%+v", r)
			}
			name, err := b.Snapshot(ctx, "snap")
			refused("snapshot", err)
			if name != "snap" {
				t.Error(name)
			}
			for _, op := range []string{"backup", "copy"} {
				to := mustOpen(t, t.TempDir(), nil)
				var done []CopiedTable
				if op == "backup" {
					done, err = s.Backup(ctx, to, "monday", nil)
				} else {
					done, err = s.CopyTo(ctx, to, nil)
				}
				refused(op, err)
				if len(done) != 2 {
					t.Errorf("%+v", done)
				}
				wantRows(t, to.Bucket("one"), "good", 0, 1, 2, 3, 4, 5, 6)
			}
			wantDamaged(t, b, "bad")
			found, _ := verified(t, s, VerifyOptions{})
			if len(found) != 1 || found[0].Table != "bad" || found[0].File != file {
				t.Fatal(found)
			}
			if found, _ = verified(t, s, VerifyOptions{Repair: copied.Source()}); len(found) != 1 || found[0].State != Repaired {
				t.Fatal(found)
			}
			wantDamaged(t, b)
			wantRows(t, b, "bad", 0, 1, 2, 3, 4, 5)
			mustPut(t, b, "bad", Append, 6)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = mustOpen(t, s.Dir(), nil)
			wantRows(t, s.Bucket("one"), "bad", 0, 1, 2, 3, 4, 5, 6)
			if r, err := s.Fold(ctx, nil); err != nil || r.Rows != 3 {
				t.Error(r, err)
			}
			wantRows(t, s.Bucket("one"), "bad", 0, 1, 2, 3, 4, 5, 6)
		})
	}
}

// wantDamaged compares the names of the tables that a listing shows as damaged.
func wantDamaged(t *testing.T, b *Bucket, want ...string) {
	t.Helper()
	var damaged []string
	for i, err := range b.Tables(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if i.Damaged != "" {
			damaged = append(damaged, i.Name)
		}
	}
	if strings.Join(damaged, " ") != strings.Join(want, " ") {
		t.Errorf("damaged are %q, want %q", damaged, want)
	}
}

// The background folds others beside a damaged table, and the table itself once its
// metadata is in place again.
func TestFoldBesideDamaged(t *testing.T) {
	t.Parallel()
	s, copied, file := harmed(t, "metadata", harms["zeroed"])
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, s.Dir(), &Options{FoldAge: 10 * time.Millisecond})
	folded := func(name string, want int64) bool {
		l, err := s.cat.Get(t.Context(), "one", name)
		return err == nil && l.Rows == want
	}
	await := func(name string, want int64) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !folded(name, want); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("nobody folds", name)
			}
		}
	}
	await("good", 6)
	rel, err := filepath.Rel(s.Dir(), file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(copied.Dir(), rel))
	if err == nil {
		err = os.WriteFile(file, b, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	await("bad", 6)
	wantRows(t, s.Bucket("one"), "bad", 0, 1, 2, 3, 4, 5)
}

// A damaged table can be deleted, by itself or with its bucket, and is made anew by a
// restore from a backup. Its rows in the tail are gone then, and nothing is left of it.
func TestWaysOutOfDamage(t *testing.T) {
	t.Parallel()
	for how, f := range harms {
		for _, out := range []string{"delete", "bucket", "restore"} {
			t.Run(how+"/"+out, func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				s, copied, _ := harmed(t, "metadata", f)
				b := s.Bucket("one")
				var err error
				switch out {
				case "delete":
					err = b.Delete(ctx, "bad")
				case "bucket":
					err = s.DeleteBucket(ctx, "one", true)
				case "restore":
					to := mustOpen(t, t.TempDir(), nil)
					if _, err := copied.Backup(ctx, to, "monday", nil); err != nil {
						t.Fatal(err)
					}
					_, err = s.RestoreFrom(ctx, to, "monday", nil)
				}
				if err != nil {
					t.Fatal(err)
				}
				for range 2 {
					rows, there, err := read(ctx, s.Bucket("one"), "bad")
					if err != nil || there != (out == "restore") || there && len(rows) != 6 {
						t.Error(rows, there, err)
					}
					if found, _ := verified(t, s, VerifyOptions{}); len(found) > 0 {
						t.Error(found)
					}
					if _, err := s.Expire(ctx, &MaintainOptions{Grace: -1}); err != nil {
						t.Error(err)
					}
					if out != "restore" {
						mustPut(t, s.Bucket("one"), "bad", Error, 1)
						if err := s.Bucket("one").Delete(ctx, "bad"); err != nil {
							t.Error(err)
						}
					}
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = mustOpen(t, s.Dir(), &Options{FoldAge: -1})
				}
			})
		}
	}
}

// Other files of a table than its metadata are its own matter, too.
func TestDamagedVersion(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"list", "manifest", "data"} {
		for how, f := range harms {
			t.Run(kind+"/"+how, func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				s, copied, file := harmed(t, kind, f)
				b := s.Bucket("one")
				if _, _, err := read(ctx, b, "bad"); err == nil {
					if kind != "data" || how != "another's" { // which only its checksum tells
						t.Error("it is read")
					}
				} else if kind != "data" && (!errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), file)) {
					t.Error(err)
				}
				wantRows(t, b, "good", 0, 1, 2, 3, 4, 5)
				if _, err := s.Fold(ctx, nil); err != nil && !errors.Is(err, ErrDamaged) {
					t.Error(err)
				}
				if r, err := s.Expire(ctx, &MaintainOptions{Grace: -1}); kind != "data" && (!errors.Is(err, ErrDamaged) || r.FilesRemoved > 0) {
					t.Error(r, err)
				}
				to := mustOpen(t, t.TempDir(), nil)
				done, err := s.Backup(ctx, to, "monday", nil)
				if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), filepath.Base(file)) || len(done) != 2 {
					t.Error(done, err)
				}
				wantRows(t, to.Bucket("one"), "good", 0, 1, 2, 3, 4, 5)
				if found, _ := verified(t, s, VerifyOptions{Repair: copied.Source()}); len(found) != 1 || found[0].State != Repaired {
					t.Error(found)
				}
				wantRows(t, b, "bad", 0, 1, 2, 3, 4, 5)
			})
		}
	}
}

// A catalog's row that names no metadata, or none of the warehouse, is its table's matter.
func TestCatalogNamesNothing(t *testing.T) {
	t.Parallel()
	for _, loc := range []any{nil, "", "nowhere", "s3://bucket/x.metadata.json", "file:///nowhere/x.metadata.json"} {
		s, _, _ := harmed(t, "metadata", func(b, _ []byte) []byte { return b })
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		foreign(t, s.Dir(), `UPDATE iceberg_tables SET metadata_location=? WHERE table_name='bad'`, loc)
		s = mustOpen(t, s.Dir(), nil)
		ctx, b := t.Context(), s.Bucket("one")
		wantRows(t, b, "good", 0, 1, 2, 3, 4, 5)
		wantDamaged(t, b, "bad")
		if _, _, err := read(ctx, b, "bad"); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "bad") {
			t.Error(loc, err)
		}
		if found, _ := verified(t, s, VerifyOptions{}); len(found) != 1 || found[0].Table != "bad" {
			t.Error(loc, found)
		}
		if _, err := b.Snapshot(ctx, "snap"); !errors.Is(err, ErrDamaged) {
			t.Error(loc, err)
		}
		if err := b.DeleteSnapshots(ctx); err != nil {
			t.Error(err)
		}
		if err := b.Delete(ctx, "bad"); err != nil {
			t.Error(loc, err)
		}
		if _, err := s.Expire(ctx, &MaintainOptions{Grace: -1}); err != nil {
			t.Error(loc, err)
		}
		wantRows(t, b, "good", 0, 1, 2, 3, 4, 5)
	}
}

// What the tail has of a table and cannot be decoded is that table's matter, and stays.
func TestDamagedTail(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	s := mustOpen(t, dir, &Options{FoldAge: -1})
	b := s.Bucket("one")
	for _, rows := range [][]int64{{1, 2}, {3}} {
		if _, err := s.Fold(ctx, nil); err != nil {
			t.Fatal(err)
		}
		mustPut(t, b, "bad", Append, rows...)
		mustPut(t, b, "good", Append, rows...)
	}
	uuid := s.entries[tableName{"one", "bad"}].state.uuid
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := logstore.Open(filepath.Join(dir, "tail"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, err := range partd.Keys(ctx, l) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(k.Key, uuid) {
			if err := l.Append(ctx, partd.Entry{Key: k.Key, Value: []byte("no frame")}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s = mustOpen(t, dir, &Options{FoldAge: -1})
		b = s.Bucket("one")
		wantRows(t, b, "good", 1, 2, 3)
		wantDamaged(t, b, "bad")
		if _, _, err := read(ctx, b, "bad"); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "tail key "+uuid) || !strings.Contains(err.Error(), "bad") {
			t.Error(err)
		}
		if _, err := b.Put(ctx, "bad", rowsOf(9), Append, nil); !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
		if found, _ := verified(t, s, VerifyOptions{}); len(found) != 1 || found[0].Table != "bad" {
			t.Error(found)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s = mustOpen(t, dir, &Options{FoldAge: -1})
	if err := s.Bucket("one").Delete(ctx, "bad"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s.Bucket("one"), "bad", Error, 1)
	wantRows(t, s.Bucket("one"), "bad", 1)
}

// A store opens that has tables from before their columns' names were checked: they are
// refused by name, and can be deleted.
func TestNamesOfBefore(t *testing.T) {
	t.Parallel()
	for _, folded := range []bool{true, false} { // else the metadata is in the catalog, too
		ctx, s := t.Context(), mustOpen(t, t.TempDir(), &Options{FoldAge: -1})
		for i := range int64(2) {
			for _, table := range []string{"old", "good"} {
				mustPut(t, s.Bucket(""), table, Append, i)
			}
			if i == 0 && folded {
				if _, err := s.Fold(ctx, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		path := partsOf(t, s, "", "old")["metadata"][0]
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		var was []byte
		damage(t, path, func(b []byte) []byte {
			was = bytes.ReplaceAll(b, []byte(`"name":"n"`), []byte(`"name":""`))
			return was
		})
		hash := xxh3.Hash128(was).Bytes()
		foreign(t, s.Dir(), `UPDATE partd_files SET size=?, xxh3=? WHERE path='file://' || ?`, len(was), hash[:], path)
		foreign(t, s.Dir(), `UPDATE partd_light SET metadata=? WHERE location='file://' || ?`, was, path)
		s = mustOpen(t, s.Dir(), &Options{FoldAge: -1})
		b := s.Bucket("")
		wantDamaged(t, b, "old")
		if _, _, err := read(ctx, b, "old"); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), `"old"`) {
			t.Error(folded, err)
		}
		if _, err := s.Fold(ctx, nil); !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
		mustPut(t, b, "good", Append, 3)
		if err := b.Delete(ctx, "old"); err != nil {
			t.Error(folded, err)
		}
		wantDamaged(t, b)
		if _, err := s.Expire(ctx, &MaintainOptions{Grace: -1}); err != nil {
			t.Error(err)
		}
		mustPut(t, b, "old", Append, 3)
		wantRows(t, b, "old", 3)
	}
}
