package tables

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// listed returns the files of a directory, with their sizes and times.
func listed(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := d.Info()
		all = append(all, path+i.ModTime().String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A read-only Store has what exists when it opens, including the tail, next to the Store that
// writes. It changes nothing.
func TestReadOnly(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	t.Setenv("TMPDIR", t.TempDir())
	s, err := Open(ctx, dir, &Options{FoldAge: -1})
	if err != nil {
		t.Fatal(err)
	}
	b := s.Bucket("")
	put := func(n ...int64) {
		t.Helper()
		if _, err := b.Put(ctx, "t", rowsOf(n...), PutAppend, nil); err != nil {
			t.Fatal(err)
		}
	}
	put(from(0, 100)...)
	if _, err := s.Fold(ctx, nil); err != nil {
		t.Fatal(err)
	}
	put(100)
	before := listed(t, dir)
	r, err := Open(ctx, dir, &Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if !r.ReadOnly() || s.ReadOnly() {
		t.Error("the wrong Store is for reading")
	}
	read := func() []int64 {
		t.Helper()
		table, err := r.Bucket("").Table(ctx, "t")
		if err != nil {
			t.Fatal(err)
		}
		ns, err := readAll(ctx, table, nil)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(ns)
		return ns
	}
	if got := read(); !slices.Equal(got, from(0, 101)) {
		t.Error(got)
	}
	if _, err := r.Bucket("").Put(ctx, "t", rowsOf(1), PutAppend, nil); !errors.Is(err, ErrReadOnly) {
		t.Error(err)
	}
	if err := r.Bucket("").Delete(ctx, "t"); !errors.Is(err, ErrReadOnly) {
		t.Error(err)
	}
	if _, err := r.Bucket("").Snapshot(ctx, "s"); !errors.Is(err, ErrReadOnly) {
		t.Error(err)
	}
	if err := r.Bucket("").DeleteSnapshots(ctx); !errors.Is(err, ErrReadOnly) {
		t.Error(err)
	}
	if err := r.DeleteBucket(ctx, "", true); !errors.Is(err, ErrReadOnly) {
		t.Error(err)
	}
	if _, err := r.Fold(ctx, nil); err != nil {
		t.Error(err)
	}
	if !slices.Equal(listed(t, dir), before) {
		t.Error("the directory was changed")
	}
	put(101)
	if _, err := s.Fold(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if got := read(); !slices.Equal(got, from(0, 101)) {
		t.Error(got)
	}
	if err := errors.Join(r.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
	if _, err := Open(ctx, t.TempDir(), &Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// Copying reports the error of the copies, such as that of a full disk, even if the files also
// change, and ends with its context.
func TestCopyStableErrors(t *testing.T) {
	changes := 0
	fingerprint := func(context.Context) (string, error) { changes++; return strconv.Itoa(changes), nil }
	full := errors.New("no space left on device")
	if _, err := copyStable(t.Context(), fingerprint, func() error { return full }); !errors.Is(err, full) {
		t.Errorf("the files change and copies fail: %v", err)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := os.WriteFile(filepath.Join(dir, catalogFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := catalogFingerprint(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("a new catalog after the end of the context: %v", err)
	}
}
