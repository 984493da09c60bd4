package icecat

import (
	"context"
	"testing"

	"github.com/go-partd/partd/internal/vfs"
)

// A file that somebody wants is not removed, and one that is being removed is nobody's.
func TestWantedBesideSweep(t *testing.T) {
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
	if still, err := c.Wanted(ctx, location); err != nil || !still {
		t.Fatal(still, err)
	}
	if useless, err := c.forgetFile(ctx, path); err != nil || useless {
		t.Fatal("a Sweep removes what is wanted:", useless, err)
	}
	exec(`INSERT INTO partd_orphans VALUES (?,0)`, path)
	if useless, err := c.forgetFile(ctx, path); err != nil || !useless {
		t.Fatal(useless, err)
	}
	if still, err := c.Wanted(ctx, location); err != nil || still {
		t.Fatal("what a Sweep removes is taken for a good file:", still, err)
	}
}
