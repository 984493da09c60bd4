package icecat

import (
	"context"
	"testing"

	"github.com/go-partd/partd/internal/vfs"
)

// A file that is wanted is not removed, and a file that is being removed cannot be wanted.
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
		if err := c.inTx(ctx, func(w *work) { w.do(q, args...) }); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO partd_files VALUES (?,'',0,x'00')`, location)
	exec(`INSERT INTO partd_orphans VALUES (?,0)`, path)
	if still, err := c.Protect(ctx, location); err != nil || !still {
		t.Fatal(still, err)
	}
	if unused, err := c.forgetFile(ctx, path); err != nil || unused {
		t.Fatal("a Sweep removes a wanted file:", unused, err)
	}
	exec(`INSERT INTO partd_orphans VALUES (?,0)`, path)
	if unused, err := c.forgetFile(ctx, path); err != nil || !unused {
		t.Fatal(unused, err)
	}
	if still, err := c.Protect(ctx, location); err != nil || still {
		t.Fatal("a file that a Sweep removes can be wanted:", still, err)
	}
}
