package tables_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestVerifyAfterExpire checks that a snapshot remains complete after older and newer versions have expired.
func TestVerifyAfterExpire(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	for i := range int64(3) {
		tabletest.Put(t, b, "t", tables.PutReplace, i)
	}
	tabletest.Snapshot(t, b, "snap")
	tabletest.Put(t, b, "t", tables.PutReplace, 9)
	if r, err := s.Expire(ctx, &tables.MaintainOptions{Grace: -1}); err != nil || r.FilesRemoved == 0 {
		t.Fatalf("Expire = %+v, %v; want FilesRemoved above 0", r, err)
	}
	if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) > 0 {
		t.Errorf("Verify reported %+v; want none", findings)
	}
	snap, err := b.Table("t").At(ctx, tables.AtSnapshot("snap"))
	if err != nil {
		t.Fatal(err)
	}
	if rows, err := tabletest.ReadAll(ctx, snap, nil); err != nil || len(rows) != 1 || rows[0] != 2 {
		t.Errorf("rows in the snapshot = %v, error %v; want [2]", rows, err)
	}
}

// TestVerifyEachFile damages each file of a store. Verify must report and repair every damaged file that is needed,
// including older metadata, and ignore the others.
func TestVerifyEachFile(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("b")
	for i := range int64(3) {
		tabletest.Put(t, b, "committed", tables.PutReplace, i)
		tabletest.Put(t, b, "folded", tables.PutAppend, i)
		tabletest.Fold(t, s)
		if i == 1 {
			tabletest.Snapshot(t, b, "snap")
		}
	}
	if err := b.Table("folded").Evolve(ctx, tables.ColumnChange{Op: "rename", Column: "s", To: "text"}); err != nil {
		t.Fatal(err)
	}
	needed := neededFiles(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(t.TempDir(), "good")
	if err := os.CopyFS(good, os.DirFS(s.Dir())); err != nil {
		t.Fatal(err)
	}
	copied := tabletest.Open(t, good, nil)
	files, damagedMetadata := 0, 0
	err := filepath.WalkDir(filepath.Join(s.Dir(), "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		for _, damageName := range []string{"flipped", "truncated", "zeroed", "missing"} {
			before, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			f := tabletest.Damages[damageName]
			if damageName == "zeroed" {
				f = func(b []byte) []byte { return make([]byte, len(b)) }
			}
			tabletest.Damage(t, path, f)
			s, err := tables.Open(ctx, s.Dir(), &tables.Options{FoldAge: -1})
			if err != nil {
				return err
			}
			findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: copied.Copies()})
			if err := s.Close(); err != nil {
				return err
			}
			if !needed[path] {
				if len(findings) > 0 {
					return fmt.Errorf("unneeded file %s: Verify reported %+v, want nothing", damageName, findings)
				}
				if err := os.WriteFile(path, before, 0o666); err != nil {
					return err
				}
				continue
			}
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(after, before) || len(findings) != 1 || findings[0].File != path || findings[0].State != tables.Repaired {
				return fmt.Errorf("%s %s: Verify reported %+v, want one repaired file; error: %v", damageName, path, findings, err)
			}
			if strings.HasSuffix(path, ".json") {
				damagedMetadata++
			}
		}
		return nil
	})
	if err != nil || files < 20 || damagedMetadata < 20 {
		t.Errorf("checked %d files and %d damaged metadata files, want at least 20 of each; error: %v", files, damagedMetadata, err)
	}
}

// neededFiles returns the files that a store's tables and snapshots refer to. It omits metadata that no newer metadata
// lists as previous, and metadata of tables created in the tail, which was never synced.
func neededFiles(t *testing.T, s *tables.Store) map[string]bool {
	t.Helper()
	ctx, needed := t.Context(), map[string]bool{}
	used, err := s.Catalog().References(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for path := range used {
		needed[path] = true
	}
	states, err := s.Catalog().States(ctx, "b")
	if err != nil || len(states) != 4 {
		t.Fatalf("States = %+v, %v; want 4 elements", states, err)
	}
	for _, l := range states {
		after, err := s.Catalog().LoadAt(ctx, "b", l.Name, l.Location)
		if err != nil {
			t.Fatal(err)
		}
		for old := range after.Metadata().PreviousFiles() {
			path, _, err := s.Catalog().Local(old.MetadataFile)
			if err != nil {
				t.Fatal(err)
			}
			if _, synced, err := s.Catalog().FileAt(ctx, old.MetadataFile); err != nil {
				t.Fatal(err)
			} else if synced {
				needed[path] = true
			}
		}
	}
	return needed
}
