package icecat

import (
	"context"
	"testing"

	"github.com/go-partd/partd/internal/vfs"
)

// TestProtectDuringSweep checks that Sweep does not remove a protected file, and that Protect refuses a file
// that a Sweep is removing.
func TestProtectDuringSweep(t *testing.T) {
	ctx := context.Background()
	c, err := Open(ctx, t.TempDir(), Options{FS: vfs.OS{}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	location := c.location("data/file")
	path, err := c.local(location)
	if err != nil {
		t.Fatal(err)
	}
	exec := func(q string, args ...any) {
		t.Helper()
		if err := c.inTx(ctx, func(w *transaction) { w.exec(q, args...) }); err != nil {
			t.Fatal(err)
		}
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
