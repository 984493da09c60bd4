package tables

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// corruptions maps names to functions that damage a file with content b; other is the content of another file. A nil
// function means that the file is deleted.
var corruptions = map[string]func(b, other []byte) []byte{
	"truncated":    func(b, _ []byte) []byte { return b[:len(b)/2] },
	"zeroed":       func(b, _ []byte) []byte { return make([]byte, len(b)) },
	"garbage":      func(b, _ []byte) []byte { return []byte(strings.Repeat("\xff{[", len(b)/3)) },
	"another file": func(_, other []byte) []byte { return other },
	"deleted":      nil,
}

// corruptedStore returns a store of three tables, some with rows in the tail (not yet in data files), and an undamaged
// copy of the store. In the store, one file of table bad is damaged: a file of the given kind, at the path file.
func corruptedStore(t *testing.T, kind string, corruption func(b, otherContent []byte) []byte) (s, copied *Store, file string) {
	t.Helper()
	dir := t.TempDir()
	s = mustOpen(t, dir, &Options{FoldAge: -1})
	b := s.Bucket("one")
	for index, name := range []string{"bad", "good", "other"} {
		for i := range int64(2) {
			first := 2*i + 100*int64(index/2)
			mustPut(t, b, name, PutAppend, first, first+1)
			if _, err := s.Fold(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"bad", "good"} {
		mustPut(t, b, name, PutAppend, 4, 5)
	}
	files := tableFiles(t, s, "one", "bad")[kind]
	otherFiles := tableFiles(t, s, "one", "other")[kind]
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
		damage(t, file, nil)
	} else {
		damage(t, file, func(b []byte) []byte { return corruption(b, otherContent) })
	}
	return mustOpen(t, dir, &Options{FoldAge: -1}), mustOpen(t, good, nil), file
}

// TestOpenDamaged checks that only operations on the table with damaged metadata fail, with errors that name
// the table. After a repair, the table has all its rows again, including those in the tail.
func TestOpenDamaged(t *testing.T) {
	t.Parallel()
	for corruption, f := range corruptions {
		t.Run(corruption, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s, copied, file := corruptedStore(t, "metadata", f)
			b := s.Bucket("one")
			wantRows(t, b, "good", 0, 1, 2, 3, 4, 5)
			mustPut(t, b, "good", PutAppend, 6)
			wantDamagedError := func(operation string, err error) {
				t.Helper()
				if !errors.Is(err, ErrDamaged) {
					t.Fatalf("%s: error = %v, want ErrDamaged", operation, err)
				}
				for _, part := range []string{file, "bad", "verify --repair-from"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%s: error %q does not contain %q", operation, err, part)
					}
				}
				if errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s: error %q wraps os.ErrNotExist, but the table exists", operation, err)
				}
			}
			_, _, err := read(ctx, b, "bad")
			wantDamagedError("read", err)
			for _, m := range []PutMode{PutAppend, PutReplace, PutError} {
				_, err = b.Table("bad").Put(ctx, rowsOf(9), m, nil)
				wantDamagedError("put", err)
			}
			_, err = b.Table("bad").Upsert(ctx, rowsOf(9), &UpsertOptions{Keys: []string{"n"}})
			wantDamagedError("upsert", err)
			wantDamagedError("evolve", b.Table("bad").Evolve(ctx, ColumnChange{Op: "drop", Column: "s"}))
			// Maintenance continues with the other tables, and reports the damaged one.
			r, err := s.Fold(ctx, nil)
			wantDamagedError("fold", err)
			if r.Rows != 3 {
				t.Errorf("Fold = %+v, want Rows 3", r)
			}
			r, err = s.Compact(ctx, nil)
			wantDamagedError("compact", err)
			if r.Tables != 2 {
				t.Errorf("Compact = %+v, want Tables 2", r)
			}
			r, err = s.Expire(ctx, &MaintainOptions{Grace: -1})
			wantDamagedError("expire", err)
			if r.Tables != 2 || r.FilesRemoved != 0 {
				t.Errorf("Expire = %+v, want Tables 2 and FilesRemoved 0", r)
			}
			name, err := b.Snapshot(ctx, "snap")
			wantDamagedError("snapshot", err)
			if name != "snap" {
				t.Errorf("Snapshot returned the name %q, want snap", name)
			}
			for _, op := range []string{"backup", "copy"} {
				dest := mustOpen(t, t.TempDir(), nil)
				var copied []CopiedTable
				if op == "backup" {
					copied, err = s.Backup(ctx, dest, "monday")
				} else {
					copied, err = s.CopyTo(ctx, dest)
				}
				wantDamagedError(op, err)
				if len(copied) != 2 {
					t.Errorf("%s copied %+v, want 2 tables", op, copied)
				}
				wantRows(t, dest.Bucket("one"), "good", 0, 1, 2, 3, 4, 5, 6)
			}
			wantDamaged(t, b, "bad")
			findings, _ := verifyAll(t, s, VerifyOptions{})
			if len(findings) != 1 || findings[0].Table != "bad" || findings[0].File != file {
				t.Fatalf("Verify reported %+v, want %s of table bad", findings, file)
			}
			if findings, _ = verifyAll(t, s, VerifyOptions{Repair: copied.Copies()}); len(findings) != 1 || findings[0].State != Repaired {
				t.Fatalf("Verify reported %+v; want 1 element with State Repaired", findings)
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
				t.Errorf("Fold = %+v, %v; want Rows 3", r, err)
			}
			wantRows(t, s.Bucket("one"), "bad", 0, 1, 2, 3, 4, 5, 6)
		})
	}
}

// wantDamaged checks which tables a listing shows as damaged.
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
		t.Errorf("damaged tables are %q, want %q", damaged, want)
	}
}

// TestCompactDamagedFile checks that Compact fails if it reads a damaged file, with an error that names the table.
func TestCompactDamagedFile(t *testing.T) {
	s, _, _ := corruptedStore(t, "data", corruptions["garbage"])
	for _, name := range []string{"bad", "good"} { // adds a second file, so that Compact merges both
		mustPut(t, s.Bucket("one"), name, PutAppend, 8, 9)
	}
	if _, err := s.Fold(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Compact(t.Context(), nil); err == nil || !strings.Contains(err.Error(), `"bad"`) {
		t.Errorf("Compact error = %v, want an error that names table bad", err)
	}
}
