package tables_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestOpenDamaged checks that only operations on the table with damaged metadata fail, with errors that name
// the table. After a repair, the table has all its rows again, including those in the tail.
func TestOpenDamaged(t *testing.T) {
	t.Parallel()
	for corruption, f := range tabletest.Corruptions {
		t.Run(corruption, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s, copied, file := tabletest.CorruptedStore(t, "metadata", f)
			b := s.Bucket("one")
			tabletest.WantRows(t, b, "good", 0, 1, 2, 3, 4, 5)
			tabletest.Put(t, b, "good", tables.PutAppend, 6)
			wantDamagedError := func(operation string, err error) {
				t.Helper()
				if !errors.Is(err, tables.ErrDamaged) {
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
			_, _, err := tabletest.Read(ctx, b, "bad")
			wantDamagedError("read", err)
			for _, m := range []tables.PutMode{tables.PutAppend, tables.PutReplace, tables.PutError} {
				_, err = b.Table("bad").Put(ctx, tabletest.Rows(9), m, nil)
				wantDamagedError("put", err)
			}
			_, err = b.Table("bad").Upsert(ctx, tabletest.Rows(9), &tables.UpsertOptions{Keys: []string{"n"}})
			wantDamagedError("upsert", err)
			wantDamagedError("evolve", b.Table("bad").Evolve(ctx, tables.ColumnChange{Op: "drop", Column: "s"}))
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
			r, err = s.Expire(ctx, &tables.MaintainOptions{Grace: -1})
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
				dest := tabletest.Open(t, t.TempDir(), nil)
				var copied []tables.CopiedTable
				if op == "backup" {
					copied, err = s.Backup(ctx, dest, "monday")
				} else {
					copied, err = s.CopyTo(ctx, dest)
				}
				wantDamagedError(op, err)
				if len(copied) != 2 {
					t.Errorf("%s copied %+v, want 2 tables", op, copied)
				}
				tabletest.WantRows(t, dest.Bucket("one"), "good", 0, 1, 2, 3, 4, 5, 6)
			}
			wantDamaged(t, b, "bad")
			findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{})
			if len(findings) != 1 || findings[0].Table != "bad" || findings[0].File != file {
				t.Fatalf("Verify reported %+v, want %s of table bad", findings, file)
			}
			if findings, _ = tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: copied.Copies()}); len(findings) != 1 || findings[0].State != tables.Repaired {
				t.Fatalf("Verify reported %+v; want 1 element with State Repaired", findings)
			}
			wantDamaged(t, b)
			tabletest.WantRows(t, b, "bad", 0, 1, 2, 3, 4, 5)
			tabletest.Put(t, b, "bad", tables.PutAppend, 6)
			must.Do(t, s.Close())
			s = tabletest.Open(t, s.Dir(), nil)
			tabletest.WantRows(t, s.Bucket("one"), "bad", 0, 1, 2, 3, 4, 5, 6)
			if r, err := s.Fold(ctx, nil); err != nil || r.Rows != 3 {
				t.Errorf("Fold = %+v, %v; want Rows 3", r, err)
			}
			tabletest.WantRows(t, s.Bucket("one"), "bad", 0, 1, 2, 3, 4, 5, 6)
		})
	}
}

// wantDamaged checks which tables a listing shows as damaged.
func wantDamaged(t *testing.T, b *tables.Bucket, want ...string) {
	t.Helper()
	var damaged []string
	for i, err := range b.Tables(t.Context(), nil) {
		must.Do(t, err)
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
	s, _, _ := tabletest.CorruptedStore(t, "data", tabletest.Corruptions["garbage"])
	for _, name := range []string{"bad", "good"} { // adds a second file, so that Compact merges both
		tabletest.Put(t, s.Bucket("one"), name, tables.PutAppend, 8, 9)
	}
	tabletest.Fold(t, s)
	if _, err := s.Compact(t.Context(), nil); err == nil || !strings.Contains(err.Error(), `"bad"`) {
		t.Errorf("Compact error = %v, want an error that names table bad", err)
	}
}

// TestBackgroundFoldSkipsDamaged checks that background folding skips a damaged table, and folds it after its metadata
// has been repaired.
func TestBackgroundFoldSkipsDamaged(t *testing.T) {
	t.Parallel()
	s, copied, file := tabletest.CorruptedStore(t, "metadata", tabletest.Corruptions["zeroed"])
	must.Do(t, s.Close())
	s = tabletest.Open(t, s.Dir(), &tables.Options{FoldAge: 10 * time.Millisecond})
	folded := func(name string, want int64) bool {
		l, err := s.Bucket("one").Table(name).Info(t.Context())
		return err == nil && l.Rows == want
	}
	await := func(name string, want int64) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !folded(name, want); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("table %s was not folded within 20 seconds", name)
			}
		}
	}
	await("good", 6)
	rel := must.Get(filepath.Rel(s.Dir(), file))(t)
	b, err := os.ReadFile(filepath.Join(copied.Dir(), rel))
	if err == nil {
		err = os.WriteFile(file, b, 0o666)
	}
	must.Do(t, err)
	await("bad", 6)
	tabletest.WantRows(t, s.Bucket("one"), "bad", 0, 1, 2, 3, 4, 5)
}

// TestDeleteOrRestoreDamaged checks that a damaged table can be deleted, by itself or with its bucket, or restored from
// a backup. Afterwards, none of the table's old rows may reappear from the tail, which holds rows that are not yet in
// data files.
func TestDeleteOrRestoreDamaged(t *testing.T) {
	t.Parallel()
	for corruption, f := range tabletest.Corruptions {
		for _, action := range []string{"delete", "bucket", "restore"} {
			t.Run(corruption+"/"+action, func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				s, copied, _ := tabletest.CorruptedStore(t, "metadata", f)
				b := s.Bucket("one")
				var err error
				switch action {
				case "delete":
					err = b.Delete(ctx, "bad")
				case "bucket":
					err = s.DeleteBucket(ctx, "one", true)
				case "restore":
					dest := tabletest.Open(t, t.TempDir(), nil)
					must.Get(copied.Backup(ctx, dest, "monday"))(t)
					_, err = s.RestoreFrom(ctx, dest, "monday")
				}
				must.Do(t, err)
				for range 2 {
					rows, exists, err := tabletest.Read(ctx, s.Bucket("one"), "bad")
					if err != nil || exists != (action == "restore") || exists && len(rows) != 6 {
						t.Errorf("after %s: read = %v, exists %v, error %v; want 6 rows after a restore, and otherwise no table", action, rows, exists, err)
					}
					if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) > 0 {
						t.Errorf("Verify reported %+v; want none", findings)
					}
					must.Get(s.Expire(ctx, &tables.MaintainOptions{Grace: -1}))(t)
					if action != "restore" {
						tabletest.Put(t, s.Bucket("one"), "bad", tables.PutError, 1)
						must.Do(t, s.Bucket("one").Delete(ctx, "bad"))
					}
					must.Do(t, s.Close())
					s = tabletest.Open(t, s.Dir(), &tables.Options{FoldAge: -1})
				}
			})
		}
	}
}
