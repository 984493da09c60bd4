package tables_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestReadOnly checks that a read-only Store, opened while another Store writes, has the rows that existed when it was
// opened, including those in the tail. It must change nothing.
func TestReadOnly(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	t.Setenv("TMPDIR", t.TempDir())
	s, err := tables.Open(ctx, dir, &tables.Options{FoldAge: -1})
	if err != nil {
		t.Fatal(err)
	}
	b := s.Bucket("")
	put := func(n ...int64) {
		t.Helper()
		tabletest.PutRows(t, b, "t", tabletest.Rows(n...), tables.PutAppend, nil)
	}
	put(tabletest.Sequence(0, 100)...)
	tabletest.Fold(t, s)
	put(100)
	before := tabletest.ListFiles(t, dir)
	r, err := tables.Open(ctx, dir, &tables.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if !r.ReadOnly() || s.ReadOnly() {
		t.Errorf("ReadOnly = %v for the read-only Store and %v for the other, want true and false", r.ReadOnly(), s.ReadOnly())
	}
	read := func() []int64 {
		t.Helper()
		table := r.Bucket("").Table("t")
		ns, err := tabletest.ReadAll(ctx, table, nil)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(ns)
		return ns
	}
	if got := read(); !slices.Equal(got, tabletest.Sequence(0, 101)) {
		t.Errorf("the read-only Store has rows %+v, want %v", got, tabletest.Sequence(0, 101))
	}
	if _, err := r.Bucket("").Table("t").Put(ctx, tabletest.Rows(1), tables.PutAppend, nil); !errors.Is(err, tables.ErrReadOnly) {
		t.Errorf("Put error = %v, want ErrReadOnly", err)
	}
	if err := r.Bucket("").Delete(ctx, "t"); !errors.Is(err, tables.ErrReadOnly) {
		t.Errorf("Delete error = %v, want ErrReadOnly", err)
	}
	if _, err := r.Bucket("").Snapshot(ctx, "s"); !errors.Is(err, tables.ErrReadOnly) {
		t.Errorf("Snapshot error = %v, want ErrReadOnly", err)
	}
	if err := r.Bucket("").DeleteSnapshots(ctx); !errors.Is(err, tables.ErrReadOnly) {
		t.Errorf("DeleteSnapshots error = %v, want ErrReadOnly", err)
	}
	if err := r.DeleteBucket(ctx, "", true); !errors.Is(err, tables.ErrReadOnly) {
		t.Errorf("DeleteBucket error = %v, want ErrReadOnly", err)
	}
	if _, err := r.Fold(ctx, nil); err != nil {
		t.Error(err)
	}
	if !slices.Equal(tabletest.ListFiles(t, dir), before) {
		t.Error("the read-only Store changed the directory")
	}
	put(101)
	tabletest.Fold(t, s)
	if got := read(); !slices.Equal(got, tabletest.Sequence(0, 101)) {
		t.Errorf("after a later put, the read-only Store has rows %+v, want %v", got, tabletest.Sequence(0, 101))
	}
	if err := errors.Join(r.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if remaining, err := os.ReadDir(os.TempDir()); err != nil || len(remaining) > 0 {
		t.Errorf("the temporary directory contains %v, want it empty; error: %v", remaining, err)
	}
	if _, err := tables.Open(ctx, t.TempDir(), &tables.Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of an empty directory: error = %v, want fs.ErrNotExist", err)
	}
}

// TestCopyStableErrors checks that copyStable returns the error of a failed copy, such as a full disk, even if the
// files also change, and that catalogFingerprint stops when its context ends.
func TestCopyStableErrors(t *testing.T) {
	changes := 0
	fingerprint := func(context.Context) (string, error) { changes++; return strconv.Itoa(changes), nil }
	errFull := errors.New("no space left on device")
	if _, err := tables.CopyStable(t.Context(), fingerprint, func() error { return errFull }); !errors.Is(err, errFull) {
		t.Errorf("copyStable of changing files, with failing copies: error = %v, want %v", err, errFull)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := os.WriteFile(filepath.Join(dir, tables.CatalogFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tables.CatalogFingerprint(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("catalogFingerprint with a canceled context: error = %v, want context.Canceled", err)
	}
}

// TestReadOnlyKeepsLocks opens a copy of a Store in the same process. Another program must then not remove the log of that Store.
func TestReadOnlyKeepsLocks(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	s := tabletest.Open(t, dir, nil)
	tabletest.Put(t, s.Bucket("b"), "t", tables.PutAppend, 1)
	r, err := tables.Open(t.Context(), dir, &tables.Options{ReadOnly: true})
	tabletest.Succeed(t, err)
	tabletest.Succeed(t, r.Close())
	tabletest.Succeed(t, exec.Command(program, filepath.Join(dir, "catalog.db"), "SELECT * FROM iceberg_tables").Run())
	_, err = os.Stat(filepath.Join(dir, "catalog.db-wal"))
	tabletest.Succeed(t, err)
}
