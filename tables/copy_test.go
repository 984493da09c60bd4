package tables_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func TestCopyTo(t *testing.T) {
	t.Parallel()
	ctx, source := t.Context(), tabletest.FullStore(t)
	dest := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
	want := tabletest.StateOf(t, source)
	copied, err := source.CopyTo(ctx, dest)
	must.Do(t, err)
	tabletest.WantState(t, dest, want)
	for _, d := range copied {
		sum, err := dest.Bucket(d.Bucket).Table(d.Name).Checksum(ctx, nil)
		if err != nil || sum.String() != d.Checksum || sum.Rows != d.Rows || d.Rows == 0 {
			t.Errorf("checksum of the copied table = %+v, error %v; want that of %+v", sum, err, d)
		}
	}
	if unchanged, files := tabletest.Totals(copied); unchanged != 0 || files < 7 || len(copied) != 4 {
		t.Errorf("CopyTo = %+v, want 4 tables, no unchanged files and at least 7 copied files", copied)
	}
	// After a change to one table, another copy copies only that table's new file.
	tabletest.Put(t, source.Bucket("one"), "twice", tables.PutAppend, 9)
	copied, err = source.CopyTo(ctx, dest)
	if unchanged, files := tabletest.Totals(copied); err != nil || unchanged != 3 || files != 1 {
		t.Errorf("CopyTo = %+v, %v; want 3 unchanged tables and one copied file", copied, err)
	}
	tabletest.WantState(t, dest, tabletest.StateOf(t, source))
	for _, s := range []*tables.Store{source, dest} {
		if snapshots, err := s.Bucket("one").Snapshots(ctx); err != nil || len(snapshots) > 0 {
			t.Errorf("Snapshots = %+v, %v; want none", snapshots, err)
		}
	}
	// If the destination has changed, another copy fails, and does not overwrite the change.
	tabletest.Put(t, dest.Bucket("one"), "plain", tables.PutAppend, 44)
	before := tabletest.StateOf(t, dest)
	if _, err = source.CopyTo(ctx, dest); !errors.Is(err, tables.ErrExists) || !strings.Contains(err.Error(), "plain") {
		t.Errorf(`CopyTo error = %v, want ErrExists with the text "plain"`, err)
	}
	tabletest.WantState(t, dest, before)
	if _, err := source.CopyTo(ctx, source); err == nil {
		t.Error("CopyTo of a store to itself succeeded, want an error")
	}
	otherSource := tabletest.Open(t, t.TempDir(), nil)
	tabletest.Put(t, otherSource.Bucket("one"), "twice", tables.PutAppend, 1)
	if _, err = otherSource.CopyTo(ctx, dest); !errors.Is(err, tables.ErrExists) { // the table there is another store's copy
		t.Errorf("CopyTo to another store's copy: error = %v, want ErrExists", err)
	}
	missing := "missing"
	if _, err = otherSource.CopyTo(ctx, dest, missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("CopyTo of a missing bucket: error = %v, want fs.ErrNotExist", err)
	}
}

// TestCopyToConcurrentPut checks that rows put into the destination during the copy are not lost.
func TestCopyToConcurrentPut(t *testing.T) {
	t.Parallel()
	ctx, source := t.Context(), tabletest.FullStore(t)
	var dest *tables.Store
	hasPut := false
	h := tables.Hooks{OnPrepared: func() {
		if !hasPut {
			hasPut = true
			tabletest.Put(t, dest.Bucket("one"), "plain", tables.PutAppend, 44)
		}
	}}
	dest = openHooked(t, t.TempDir(), &tables.Options{NoTail: true}, h)
	bucket := "one"
	if _, err := source.CopyTo(ctx, dest, bucket); !hasPut || !errors.Is(err, tables.ErrConflict) {
		t.Errorf("CopyTo with a concurrent put (called: %v): error = %v, want ErrConflict", hasPut, err)
	}
	tabletest.WantRows(t, dest.Bucket("one"), "plain", 44)
	must.Do(t, dest.Close())
}

// TestCopyToInterrupted checks that a copy that fails at any file system operation leaves no partly copied bucket, and
// that the next copy resumes it.
func TestCopyToInterrupted(t *testing.T) {
	t.Parallel()
	ctx, source := t.Context(), tabletest.FullStore(t)
	want := tabletest.StateOf(t, source)
	dir := t.TempDir()
	errInterrupted, sent := errors.New("interrupted"), 0
	for attempt := 1; ; attempt++ {
		var ops atomic.Int64
		dest, err := tables.OpenHooked(ctx, dir, &tables.Options{NoTail: true}, tables.Hooks{FS: vfstest.Inject(vfs.OS{}, func(op vfstest.Op, name string) error {
			if op.Changes() && strings.Contains(name, "/data/") {
				if ops.Add(1) > int64(3*attempt) { // the clean-up also fails
					return errInterrupted
				}
			}
			return nil
		})})
		must.Do(t, err)
		copied, copyErr := source.CopyTo(ctx, dest)
		ops.Store(-1 << 40)
		_, files := tabletest.Totals(copied)
		sent += files
		for name, state := range tabletest.StateOf(t, dest) {
			if strings.HasPrefix(name, "one/") && state != want[name] && state != "map[] []" {
				t.Fatalf("failure in attempt %d: the state of %q is %s, want the source's state or an empty one", attempt, name, state)
			}
		}
		if copyErr == nil {
			tabletest.WantState(t, dest, want)
		}
		must.Do(t, dest.Close())
		if copyErr == nil {
			break
		}
		if !errors.Is(copyErr, errInterrupted) || attempt > 100 {
			t.Fatalf("attempt %d: CopyTo error = %v, want the injected error and success within 100 attempts", attempt, copyErr)
		}
	}
	if sent > 8 {
		t.Errorf("sent %d files, want at most 8", sent)
	}
	if !reflect.DeepEqual(want, tabletest.StateOf(t, source)) {
		t.Error("the copy changed the source")
	}
}

// TestCopyToABucket checks that a store copied to a bucket is complete, and can be copied back. Verify finds damaged
// objects although intact copies of them are cached, and repairs data objects from the original store.
func TestCopyToABucket(t *testing.T) {
	t.Parallel()
	source, b := tabletest.FullStore(t), new(objstore.Memory)
	want := tabletest.StateOf(t, source)
	bucket := tabletest.Open(t, "s3://bucket/house", tabletest.MemoryWarehouse(t, b))
	must.Get(source.CopyTo(t.Context(), bucket))(t)
	tabletest.WantState(t, bucket, want)
	for kind, path := range sampleFiles(t, bucket, "one", "twice") {
		name := strings.TrimPrefix(path, "s3://bucket/house/")
		before := readObject(t, b, name)
		for damageName, data := range map[string][]byte{"flipped": flipBit(before), "short": before[:len(before)/2], "missing": nil} {
			replaceObject(t, b, name, data)
			findings, _ := tabletest.VerifyAll(t, bucket, tables.VerifyOptions{})
			if len(findings) != 1 || findings[0].File != path || findings[0].Table != "twice" || findings[0].State != tables.Damaged {
				t.Fatalf("%s %s: Verify reported %+v, want one file", kind, damageName, findings)
			}
			if kind != "data" {
				replaceObject(t, b, name, before) // metadata differs between stores, so it cannot be repaired from the original
				continue
			}
			if findings, _ := tabletest.VerifyAll(t, bucket, tables.VerifyOptions{Repair: source.Copies()}); len(findings) != 1 || findings[0].State != tables.Repaired {
				t.Fatalf("%s %s: Verify reported %+v, want one file", kind, damageName, findings)
			}
			if now := readObject(t, b, name); !bytes.Equal(now, before) {
				t.Fatalf("%s %s: the repaired object differs from the original", kind, damageName)
			}
		}
	}
	if findings, r := tabletest.VerifyAll(t, bucket, tables.VerifyOptions{}); len(findings) > 0 || r.Tables != 4 {
		t.Fatalf("Verify reported %+v with result %+v, want no findings and Tables 4", findings, r)
	}
	must.Get(bucket.Backup(t.Context(), tabletest.Open(t, t.TempDir(), nil), "monday"))(t)
	copiedBack := tabletest.Open(t, t.TempDir(), nil)
	must.Get(bucket.CopyTo(t.Context(), copiedBack))(t)
	tabletest.WantState(t, copiedBack, want)
}

func flipBit(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// sampleFiles returns one file of each kind of a table.
func sampleFiles(t *testing.T, s *tables.Store, bucket, name string) map[string]string {
	t.Helper()
	tb := must.Get(s.Catalog().Load(t.Context(), tables.NamespaceOf(bucket), name))(t)
	version := tb.Metadata().CurrentSnapshot()
	manifests := must.Get(version.Manifests(s.Catalog().NewIO()))(t)
	entries := must.Get(content.Entries(s.Catalog().NewIO(), manifests[0]))(t)
	return map[string]string{"list": version.ManifestList, "manifest": manifests[0].FilePath(), "data": entries[0].DataFile().FilePath()}
}

func readObject(t *testing.T, b objstore.Bucket, name string) []byte {
	t.Helper()
	r := must.Get(b.ReadRange(t.Context(), name, 0, -1))(t)
	defer r.Close()
	return must.Get(io.ReadAll(r))(t)
}

// replaceObject replaces an object, or deletes it if data is nil.
func replaceObject(t *testing.T, b objstore.Bucket, name string, data []byte) {
	t.Helper()
	must.Do(t, b.Delete(t.Context(), name))
	if data != nil {
		must.Do(t, b.Create(t.Context(), name, data))
	}
}
