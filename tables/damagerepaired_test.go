package tables

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Folding in the background skips a damaged table, and folds it once its metadata is restored.
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

// A damaged table can be deleted, by itself or with its bucket, or restored from a backup. Its
// rows in the tail are then gone, and nothing of it remains.
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
					if _, err := copied.Backup(ctx, to, "monday"); err != nil {
						t.Fatal(err)
					}
					_, err = s.RestoreFrom(ctx, to, "monday")
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
						mustPut(t, s.Bucket("one"), "bad", PutError, 1)
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
