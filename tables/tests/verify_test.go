package tables_test

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

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestVerify checks that Verify finds every damaged file, names its table, and repairs it from a copy of the directory.
func TestVerify(t *testing.T) {
	t.Parallel()
	s := tabletest.FullStore(t)
	must.Get(s.Bucket("one").Snapshot(t.Context(), "before"))(t)
	tabletest.Put(t, s.Bucket("one"), "twice", tables.PutReplace, 1)
	must.Do(t, s.Bucket("one").Delete(t.Context(), "plain")) // the snapshot still has it
	want := tabletest.StateOf(t, s)
	if findings, r := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) > 0 || r.Tables != 4 || r.Files < 20 || r.Bytes == 0 {
		t.Fatalf("Verify reported %+v with result %+v, want no findings, Tables 4, Files at least 20 and Bytes above 0", findings, r)
	}
	must.Do(t, s.Close())
	good := filepath.Join(t.TempDir(), "good")
	must.Do(t, os.CopyFS(good, os.DirFS(s.Dir())))
	s, copied := tabletest.Open(t, s.Dir(), nil), tabletest.Open(t, good, nil)
	for kind, paths := range tabletest.TableFiles(t, s, "one", "twice") {
		for damageName, f := range tabletest.Damages {
			path := paths[0] // the data file belongs to an old version
			before := must.Get(os.ReadFile(path))(t)
			tabletest.Damage(t, path, f)
			findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{})
			if len(findings) != 1 || findings[0].File != path || findings[0].Table != "twice" || findings[0].Bucket != "one" || findings[0].State != tables.Damaged {
				t.Fatalf("%s %s: Verify reported %+v, want one damaged file of table twice", kind, damageName, findings)
			}
			if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: copied.Copies()}); len(findings) != 1 || findings[0].State != tables.Repaired {
				t.Fatalf("%s %s: Verify reported %+v, want one repaired file", kind, damageName, findings)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, before) {
				t.Fatalf("%s %s: the repaired file differs from the original; error: %v", kind, damageName, err)
			}
			if findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{}); len(findings) != 0 {
				t.Fatalf("%s %s: Verify after the repair reported %+v, want nothing", kind, damageName, findings)
			}
		}
	}
	tabletest.WantState(t, s, want)
	// A damaged copy is not used for a repair, and leaves no file.
	data := tabletest.TableFiles(t, s, "one", "twice")["data"]
	path := data[len(data)-1] // the other data files are equal, so they could repair each other
	relPath := must.Get(filepath.Rel(s.Dir(), path))(t)
	tabletest.Damage(t, path, tabletest.Damages["truncated"])
	tabletest.Damage(t, filepath.Join(good, relPath), tabletest.Damages["flipped"])
	listPaths := func() (all []string) {
		_ = filepath.WalkDir(filepath.Join(s.Dir(), "data"), func(path string, _ fs.DirEntry, err error) error {
			all = append(all, path)
			return err
		})
		return all
	}
	before := listPaths()
	findings, _ := tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: copied.Copies()})
	if len(findings) != 1 || findings[0].State != tables.Damaged || !strings.Contains(findings[0].Problem, "not repaired") || !strings.Contains(findings[0].Problem, relPath) {
		t.Errorf("Verify reported %+v, want a damaged file that was not repaired", findings)
	}
	wrongSource := func(_ context.Context, _ tables.File) (io.ReadCloser, error) {
		return os.Open(filepath.Join(good, relPath))
	}
	findings, _ = tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: wrongSource})
	if len(findings) != 1 || findings[0].State != tables.Damaged || !strings.Contains(findings[0].Problem, "not repaired: "+icecat.ErrContent.Error()) {
		t.Errorf("Verify reported %+v, want a damaged file that was not repaired because of ErrContent", findings)
	}
	if !slices.Equal(listPaths(), before) {
		t.Error("a rejected copy left files in the data directory")
	}
}

// TestVerifyForeign checks that Verify reports files from other programs as unverified, or as damaged if they are
// unreadable.
func TestVerifyForeign(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	tabletest.Put(t, s.Bucket(""), "t", tables.PutAppend, 1, 2, 3)
	parts := tabletest.TableFiles(t, s, "", "t")
	db := must.Get(sql.Open("sqlite", filepath.Join(s.Dir(), "catalog.db")))(t)
	defer db.Close() //nolint:errcheck // the test is over
	for _, kind := range []string{"metadata", "list", "manifest", "data"} {
		must.Get(db.Exec(`DELETE FROM partd_files WHERE path='file://' || ?`, parts[kind][0]))(t)
	}
	findings, r := tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: s.Copies()})
	if len(findings) != 4 || r.Unverified != 4 || findings[0].State != tables.Unverified {
		t.Errorf("Verify reported %+v, want 4 unverified files", findings)
	}
	for _, kind := range []string{"data", "manifest", "list", "metadata"} {
		for damageName, f := range tabletest.Damages {
			if damageName == "flipped" || kind == "manifest" && damageName == "longer" || kind == "list" && damageName == "longer" {
				continue // without a checksum, this damage is undetectable
			}
			before := must.Get(os.ReadFile(parts[kind][0]))(t)
			tabletest.Damage(t, parts[kind][0], f)
			findings, r := tabletest.VerifyAll(t, s, tables.VerifyOptions{Repair: s.Copies()})
			last := findings[len(findings)-1]
			if r.Damaged != 1 || last.State != tables.Damaged || last.File != parts[kind][0] || last.Table != "t" {
				t.Errorf("%s %s: Verify reported %+v, want one damaged file", kind, damageName, findings)
			}
			must.Do(t, os.WriteFile(parts[kind][0], before, 0o666))
		}
	}
}
