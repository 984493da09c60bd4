package tables_test

import (
	"errors"
	"os"
	"strings"
	"testing"

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
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
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
	s, _, _ := tabletest.CorruptedStore(t, "data", tabletest.Corruptions["garbage"])
	for _, name := range []string{"bad", "good"} { // adds a second file, so that Compact merges both
		tabletest.Put(t, s.Bucket("one"), name, tables.PutAppend, 8, 9)
	}
	tabletest.Fold(t, s)
	if _, err := s.Compact(t.Context(), nil); err == nil || !strings.Contains(err.Error(), `"bad"`) {
		t.Errorf("Compact error = %v, want an error that names table bad", err)
	}
}
