package tables_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func removeCatalog(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "catalog.db*"))
	for _, f := range files {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}

// TestRebuild loses files of the catalog. Opening it then fails, without changes, until a rebuild, which gets the rows
// back.
func TestRebuild(t *testing.T) {
	t.Parallel()
	closed, killed := filepath.Join(t.TempDir(), "closed"), filepath.Join(t.TempDir(), "killed")
	s := tabletest.Open(t, closed, &tables.Options{FoldAge: -1})
	tabletest.Put(t, s.Bucket("b"), "t", tables.PutAppend, 1, 2)
	tabletest.Fold(t, s)
	tabletest.Put(t, s.Bucket("b"), "t", tables.PutAppend, 3)
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) { // the catalog makes a checkpoint after a second, and records the log's salts at its end
		if sums, err := os.ReadFile(filepath.Join(closed, "catalog.db-sums")); err == nil && len(sums) > 8 && string(sums[:8]) != string(make([]byte, 8)) {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatal("no checkpoint within a minute")
		}
	}
	must.Do(t, os.CopyFS(killed, os.DirFS(closed)))
	must.Do(t, s.Close())
	for _, c := range []struct {
		name, source string
		damage       func(dir string) error
	}{
		{"no catalog.db", closed, func(dir string) error { return os.Remove(filepath.Join(dir, "catalog.db")) }},
		{"no catalog", closed, removeCatalog},
		{"no log after a kill", killed, func(dir string) error { return os.Remove(filepath.Join(dir, "catalog.db-wal")) }},
		{"an interrupted rebuild", closed, func(dir string) error {
			image, err := os.ReadFile(filepath.Join(dir, "catalog.db"))
			if err == nil {
				image[18], image[19] = 1, 1
				err = os.WriteFile(filepath.Join(dir, "catalog-rebuild.db"), image, 0o644)
			}
			return errors.Join(err, os.Remove(filepath.Join(dir, "catalog.db-wal")), os.Truncate(filepath.Join(dir, "catalog.db"), 0))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			must.Do(t, os.CopyFS(dir, os.DirFS(c.source)))
			must.Do(t, c.damage(dir))
			for range 2 {
				if _, err := tables.Open(t.Context(), dir, nil); !errors.Is(err, tables.ErrDamaged) || !strings.Contains(err.Error(), "catalog.db") || !strings.Contains(err.Error(), "--rebuild") {
					t.Fatalf("Open returned %v; want ErrDamaged, which names the catalog", err)
				}
			}
			s := tabletest.Open(t, dir, &tables.Options{Rebuild: true, FoldAge: -1})
			found := 0
			for _, bucket := range []string{"b", "recovered"} { // without the log, the catalog may not know the table
				for info, err := range s.Bucket(bucket).Tables(t.Context(), nil) {
					must.Do(t, err)
					tabletest.WantRows(t, s.Bucket(bucket), info.Name, 1, 2, 3)
					found++
				}
			}
			if found != 1 {
				t.Errorf("the catalog has %d tables, want 1", found)
			}
		})
	}
	intact := tabletest.Open(t, closed, &tables.Options{Rebuild: true})
	tabletest.WantRows(t, intact.Bucket("b"), "t", 1, 2, 3)
	if files, err := filepath.Glob(filepath.Join(closed, "*damaged*")); err != nil || len(files) > 0 {
		t.Errorf("the rebuild of an intact catalog left %v, %v", files, err)
	}
}

// TestRebuildBucket opens the files in a bucket with an empty catalog. That fails until a rebuild.
func TestRebuildBucket(t *testing.T) {
	t.Parallel()
	o := tabletest.MemoryWarehouse(t, new(objstore.Memory))
	s := tabletest.Open(t, "s3://bucket/prefix", o)
	tabletest.Put(t, s.Bucket("b"), "t", tables.PutAppend, 1, 2)
	must.Do(t, s.Close())
	o.Catalog = t.TempDir()
	for range 2 {
		if _, err := tables.Open(t.Context(), "s3://bucket/prefix", o); !errors.Is(err, tables.ErrDamaged) || !strings.Contains(err.Error(), "catalog.db") {
			t.Fatalf("Open with an empty catalog returned %v, want ErrDamaged", err)
		}
	}
	o.Rebuild = true
	s = tabletest.Open(t, "s3://bucket/prefix", o)
	for info, err := range s.Bucket("recovered").Tables(t.Context(), nil) {
		must.Do(t, err)
		tabletest.WantRows(t, s.Bucket("recovered"), info.Name, 1, 2)
	}
}

// TestDamageWhileOpen damages the log of a running store. Once it is noticed, changes fail, and nothing is removed.
func TestDamageWhileOpen(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	b := s.Bucket("b")
	for range 3 {
		tabletest.Put(t, b, "t", tables.PutReplace, 1)
	}
	tabletest.Damage(t, filepath.Join(s.Dir(), "catalog.db-wal"), func(b []byte) []byte { b[20] ^= 1; return b })
	r := must.Get(s.Verify(t.Context(), &tables.VerifyOptions{}))(t)
	if r.Damaged != 1 || s.Damage() == nil {
		t.Errorf("Verify found %+v, and Damage returned %v", r, s.Damage())
	}
	must.Fail(t, must.Err(s.Maintain(t.Context(), &tables.MaintainOptions{})), tables.ErrDamaged, "Maintain")
	must.Fail(t, b.Delete(t.Context(), "t"), tables.ErrDamaged, "Delete")
	tabletest.WantRows(t, b, "t", 1)
}

// TestRebuildInUse rebuilds a missing catalog while another Store has the tail. The next rebuild gets all rows back.
func TestRebuildInUse(t *testing.T) {
	t.Parallel()
	s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	tabletest.Put(t, s.Bucket("b"), "t", tables.PutAppend, 1, 2)
	tabletest.Fold(t, s)
	tabletest.Put(t, s.Bucket("b"), "t", tables.PutAppend, 3)
	must.Do(t, removeCatalog(s.Dir()))
	must.Fail(t, must.Err(tables.Open(t.Context(), s.Dir(), &tables.Options{Rebuild: true})), tables.ErrInUse, "Open")
	must.Do(t, s.Close())
	s = tabletest.Open(t, s.Dir(), &tables.Options{Rebuild: true, FoldAge: -1})
	for info, err := range s.Bucket("recovered").Tables(t.Context(), nil) {
		must.Do(t, err)
		tabletest.WantRows(t, s.Bucket("recovered"), info.Name, 1, 2, 3)
	}
}
