package tables_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestBackgroundFoldSkipsDamaged checks that background folding skips a damaged table, and folds it after its metadata
// has been repaired.
func TestBackgroundFoldSkipsDamaged(t *testing.T) {
	t.Parallel()
	s, copied, file := tabletest.CorruptedStore(t, "metadata", tabletest.Corruptions["zeroed"])
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
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
	tabletest.WantRows(t, s.Bucket("one"), "bad", 0, 1, 2, 3, 4, 5)
}

// TestDeleteOrRestoreDamaged checks that a damaged table can be deleted, by itself or with its bucket, or restored from a
// backup. Afterwards, none of the table's old rows may reappear from the tail, which holds rows that are not yet in data
// files.
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
					if _, err := copied.Backup(ctx, dest, "monday"); err != nil {
						t.Fatal(err)
					}
					_, err = s.RestoreFrom(ctx, dest, "monday")
				}
				if err != nil {
					t.Fatal(err)
				}
				for range 2 {
					rows, exists, err := tabletest.Read(ctx, s.Bucket("one"), "bad")
					if err != nil || exists != (action == "restore") || exists && len(rows) != 6 {
						t.Errorf("after %s: read = %v, exists %v, error %v; want 6 rows after a restore, and otherwise no table", action, rows, exists, err)
					}
					if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) > 0 {
						t.Errorf("Verify reported %+v; want none", findings)
					}
					if _, err := s.Expire(ctx, &tables.MaintainOptions{Grace: -1}); err != nil {
						t.Error(err)
					}
					if action != "restore" {
						tabletest.Put(t, s.Bucket("one"), "bad", tables.PutError, 1)
						if err := s.Bucket("one").Delete(ctx, "bad"); err != nil {
							t.Error(err)
						}
					}
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = tabletest.Open(t, s.Dir(), &tables.Options{FoldAge: -1})
				}
			})
		}
	}
}
