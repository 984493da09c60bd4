package icecat

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestProtectDuringSweep checks that Sweep does not remove a protected file, and that Protect refuses a file
// that a Sweep is removing.
func TestProtectDuringSweep(t *testing.T) {
	ctx := context.Background()
	c := must.Get(Open(ctx, t.TempDir(), Options{FS: vfs.OS{}}))(t)
	defer c.Close()
	location := c.location("data/file")
	path := must.Get(c.local(location))(t)
	exec := func(q string, args ...any) {
		t.Helper()
		must.Do(t, c.inTx(ctx, func(w *transaction) { w.exec(q, args...) }))
	}
	exec(`INSERT INTO partd_files VALUES (?,'',0,x'00')`, location)
	exec(`INSERT INTO partd_orphans VALUES (?,0)`, path)
	if exists, err := c.Protect(ctx, location); err != nil || !exists {
		t.Fatalf("Protect = %v, %v, want true", exists, err)
	}
	if unused, err := c.forgetFile(ctx, path); err != nil || unused {
		t.Fatal("forgetFile forgot a protected file:", unused, err)
	}
	exec(`INSERT INTO partd_orphans VALUES (?,0)`, path)
	if unused, err := c.forgetFile(ctx, path); err != nil || !unused {
		t.Fatalf("forgetFile of an unprotected file = %v, %v, want true", unused, err)
	}
	if exists, err := c.Protect(ctx, location); err != nil || exists {
		t.Fatal("Protect accepted a file that a Sweep is removing:", exists, err)
	}
}

// TestUnknownOutcomeKeepsFiles checks that the files of a commit are removed if it failed, but not if its outcome is
// unknown.
func TestUnknownOutcomeKeepsFiles(t *testing.T) {
	c := must.Get(Open(t.Context(), t.TempDir(), Options{FS: vfs.OS{}}))(t)
	defer c.Close()
	io, location := c.NewIO(), c.location("data/t/data/file")
	must.Do(t, io.WriteFile(location, []byte("1")))
	io.RemoveFailed(fmt.Errorf("commit: %w", partd.ErrUnknownOutcome))
	if _, err := c.reader.ReadFile(location); err != nil {
		t.Errorf("after an unknown outcome: ReadFile error = %v", err)
	}
	io.RemoveFailed(ErrConflict)
	if _, err := c.reader.ReadFile(location); !errors.Is(err, ErrContent) {
		t.Errorf("after a conflict: ReadFile error = %v, want %v", err, ErrContent)
	}
}

// TestSyncErrors checks that Sync returns the error of a sync in the background.
func TestSyncErrors(t *testing.T) {
	errSync := errors.New("cannot sync")
	isFailing := false
	fs := vfstest.Inject(vfs.OS{}, func(op vfstest.Op, _ string) error {
		if op == vfstest.OpSync && isFailing {
			return errSync
		}
		return nil
	})
	c := must.Get(Open(t.Context(), t.TempDir(), Options{FS: fs}))(t)
	defer c.Close()
	isFailing = true
	io := c.NewIO()
	if err := errors.Join(io.WriteFile(c.location("data/t/data/file"), []byte("1")), io.Sync()); !errors.Is(err, errSync) {
		t.Errorf("Sync error = %v, want %v", err, errSync)
	}
}

// TestRecentlyUsedFile checks that the grace period of an unused file starts again if the file was in use since.
func TestRecentlyUsedFile(t *testing.T) {
	c := must.Get(Open(t.Context(), t.TempDir(), Options{FS: vfs.OS{}}))(t)
	defer c.Close()
	files, start := map[string]int64{"file": 1}, time.Now()
	for _, step := range []struct {
		used         map[string]struct{}
		at, wantSeen time.Duration
	}{{nil, 0, 0}, {nil, time.Hour, 0}, {map[string]struct{}{"file": {}}, 2 * time.Hour, 2 * time.Hour}} {
		seen, err := c.recordOrphans(t.Context(), files, step.used, start.Add(step.at))
		if d := seen["file"].Sub(start) - step.wantSeen; err != nil || d.Abs() > time.Minute {
			t.Errorf("after %s: the file was first seen at %s, want %s later; error: %v", step.at, seen["file"], step.wantSeen, err)
		}
	}
}

// TestCommittedFileIsNoOrphan checks that a commit deletes the record of a file that an earlier Sweep has found unused.
func TestCommittedFileIsNoOrphan(t *testing.T) {
	c := must.Get(Open(t.Context(), t.TempDir(), Options{FS: vfs.OS{}}))(t)
	defer c.Close()
	io, location := c.NewIO(), c.location("data/t/data/file")
	path, err := c.local(location)
	if err == nil {
		err = io.WriteFile(location, []byte("1"))
	}
	if err == nil {
		_, err = c.recordOrphans(t.Context(), map[string]int64{path: 1}, nil, time.Now())
	}
	if err = errors.Join(err, c.RecordFiles(t.Context(), io)); err != nil {
		t.Fatal(err)
	}
	if unused, err := c.forgetFile(t.Context(), path); err != nil || unused {
		t.Errorf("forgetFile = %v, %v; want false", unused, err)
	}
}
