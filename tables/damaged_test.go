package tables

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// harms are ways to damage a file; other is the content of another file.
var harms = map[string]func(b, other []byte) []byte{
	"truncated": func(b, _ []byte) []byte { return b[:len(b)/2] },
	"zeroed":    func(b, _ []byte) []byte { return make([]byte, len(b)) },
	"garbage":   func(b, _ []byte) []byte { return []byte(strings.Repeat("\xff{[", len(b)/3)) },
	"another's": func(_, other []byte) []byte { return other },
	"deleted":   nil,
}

// harmed returns a store of three tables with rows in files and in the tail, and an undamaged
// copy. While the store was closed, one file of table bad was damaged.
func harmed(t *testing.T, kind string, how func(b, other []byte) []byte) (s, copied *Store, file string) {
	t.Helper()
	dir := t.TempDir()
	s = mustOpen(t, dir, &Options{FoldAge: -1})
	b := s.Bucket("one")
	for at, name := range []string{"bad", "good", "other"} {
		for i := range int64(2) {
			first := 2*i + 100*int64(at/2)
			mustPut(t, b, name, PutAppend, first, first+1)
			if _, err := s.Fold(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"bad", "good"} {
		mustPut(t, b, name, PutAppend, 4, 5)
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

// TestOpenDamaged checks that only the table with damaged metadata fails, by its name. Once
// repaired, the table is as before, including its rows in the tail.
func TestOpenDamaged(t *testing.T) {
	t.Parallel()
	for how, f := range harms {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s, copied, file := harmed(t, "metadata", f)
			b := s.Bucket("one")
			wantRows(t, b, "good", 0, 1, 2, 3, 4, 5)
			mustPut(t, b, "good", PutAppend, 6)
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
			for _, m := range []PutMode{PutAppend, PutReplace, PutError} {
				_, err = b.Put(ctx, "bad", rowsOf(9), m, nil)
				refused("put", err)
			}
			_, err = b.Upsert(ctx, "bad", rowsOf(9), &UpsertOptions{Keys: []string{"n"}})
			refused("upsert", err)
			refused("evolve", b.Evolve(ctx, "bad", ColumnChange{Op: "drop", Column: "s"}))
			// Maintenance continues with the other tables, and reports the damaged one.
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
					done, err = s.Backup(ctx, to, "monday")
				} else {
					done, err = s.CopyTo(ctx, to)
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
			if found, _ = verified(t, s, VerifyOptions{Repair: copied.Copies()}); len(found) != 1 || found[0].State != Repaired {
				t.Fatal(found)
			}
			wantDamaged(t, b)
			wantRows(t, b, "bad", 0, 1, 2, 3, 4, 5)
			mustPut(t, b, "bad", PutAppend, 6)
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

// Compact fails if it reads a damaged file, and reports that file.
func TestCompactDamagedFile(t *testing.T) {
	s, _, _ := harmed(t, "data", harms["garbage"])
	for _, name := range []string{"bad", "good"} { // a second file, so that both are merged
		mustPut(t, s.Bucket("one"), name, PutAppend, 8, 9)
	}
	if _, err := s.Fold(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Compact(t.Context(), nil); err == nil || !strings.Contains(err.Error(), `"bad"`) {
		t.Errorf("compacting: %v", err)
	}
}
