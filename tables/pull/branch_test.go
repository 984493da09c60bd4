package pull

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// A record that the registry lost, whose only holder is dead, is an error: neither is the
// table not there, nor does a Save begin it anew.
func TestRecordLostHolderDead(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	a := openNode(t, t.TempDir(), Options{Registry: url})
	b := openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.reg.sync(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := b.reg.kv.Purge(t.Context(), "t."+keyOf("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Load(t.Context(), "x", always, always); !errors.Is(err, ErrSyncFailed) {
		t.Errorf("load: %v", err)
	}
	if v, err := b.Save(t.Context(), "x", rowsOf(t, 5, "a=9")); !errors.Is(err, ErrSyncFailed) {
		t.Errorf("save: version %d, %v", v, err)
	}
}

// A table that was begun anew while the registry and the only holder were gone is kept
// under another name when the holder comes back with more versions.
func TestBranchIsKept(t *testing.T) {
	t.Parallel()
	s, url := registryOf(t)
	const lease = 2 * time.Second
	a := openNode(t, t.TempDir(), Options{Registry: url, Lease: lease})
	mustSave(t, a, "x", 0, "a=1")
	mustSave(t, a, "x", 1, "a=2")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
	s.WaitForShutdown()
	_, url = registryOf(t)
	b := openNode(t, t.TempDir(), Options{Registry: url, Lease: lease})
	mustSave(t, b, "x", 0, "a=9")
	back := openNode(t, a.disk.dir, Options{Registry: url, Lease: lease})
	branch := ""
	until(t, "the branch has a name", func() bool {
		all, err := back.List(t.Context())
		for _, table := range all {
			if strings.HasPrefix(table.Name, "x (version 1 of ") {
				branch = table.Name
			}
		}
		return err == nil && branch != ""
	})
	for _, n := range []*Node{b, back} {
		if got := load(t, n, "x", always, always); got != "0 1\n1 2\n" {
			t.Errorf("the table: %q", got)
		}
		if got := load(t, n, branch, always, always); got != "0 9\n" {
			t.Errorf("the branch: %q", got)
		}
	}
}

// A name that JSON would change is refused, and not saved under another.
func TestNameIsText(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	n := openNode(t, t.TempDir(), Options{Registry: url})
	if _, err := n.Save(t.Context(), "x\xff", rowsOf(t, 0, "a=1")); err == nil {
		t.Error("a name that is no UTF-8 was taken")
	}
}
