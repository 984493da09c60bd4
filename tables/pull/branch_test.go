package pull

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestRecordLostHolderDead loses a record whose only holder is dead. Load must not report
// that the table does not exist, and Save must not start it anew.
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
	if err := b.reg.kv.Delete(t.Context(), "t."+keyOf("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Load(t.Context(), "x", always, always); !errors.Is(err, ErrSyncFailed) {
		t.Errorf("load: %v", err)
	}
	if v, err := b.Save(t.Context(), "x", rowsOf(t, 5, "a=9")); !errors.Is(err, ErrSyncFailed) {
		t.Errorf("save: version %d, %v", v, err)
	}
}

// TestBranchIsKept starts a table anew while the registry and its only holder are gone.
// When the holder returns with more versions, the new table must be kept under another
// name.
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

// TestHistoriesOfOneTable loses the registry and lets two nodes continue one table. No
// data may be lost, and the history with more versions keeps the name, whichever node
// returns.
func TestHistoriesOfOneTable(t *testing.T) {
	t.Parallel()
	for away := 1; away <= 3; away += 2 { // versions that the absent node saved
		s, url := registryOf(t)
		const lease = 2 * time.Second
		a := openNode(t, t.TempDir(), Options{Registry: url, Lease: lease})
		mustSave(t, a, "x", 0, "a=1")
		b := openNode(t, t.TempDir(), Options{Registry: url, Lease: lease})
		load(t, b, "x", always, always)
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		for i := range away {
			mustSave(t, b, "x", 10+i, "a=1")
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		s.Shutdown()
		s.WaitForShutdown()
		_, url = registryOf(t)
		a = openNode(t, a.disk.dir, Options{Registry: url, Lease: lease})
		until(t, "the registry is told again", func() bool { return a.reg.table(keyOf("x")).Version == 1 })
		for i := range 2 {
			mustSave(t, a, "x", 20+i, "a=2")
		}
		b = openNode(t, b.disk.dir, Options{Registry: url, Lease: lease})
		until(t, "the longer history", func() bool { return a.reg.table(keyOf("x")).Version == int64(1+max(away, 2)) })
		ours, theirs := "0 1\n20 2\n21 2\n", "0 1\n10 1\n11 1\n12 1\n"
		loser, kept := a, ours
		if away == 1 {
			loser, kept, theirs = b, "0 1\n10 1\n", ours
		}
		for _, n := range []*Node{a, b} {
			if got := load(t, n, "x", always, always); got != theirs {
				t.Errorf("%d away: the table: %q", away, got)
			}
		}
		branch := ""
		until(t, "the branch has a name", func() bool {
			all, err := loser.List(t.Context())
			for _, table := range all {
				if strings.HasPrefix(table.Name, "x (version ") {
					branch = table.Name
				}
			}
			return err == nil && branch != ""
		})
		for _, n := range []*Node{a, b} {
			if got := load(t, n, branch, always, always); got != kept {
				t.Errorf("%d away: the branch: %q", away, got)
			}
		}
	}
}

// TestForget checks that a version whose only holder is gone blocks its name until it is
// forgotten. Then the version of other nodes counts, and nothing is lost when the holder
// returns.
func TestForget(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	const lease = 2 * time.Second
	a := openNode(t, t.TempDir(), Options{Registry: url, Lease: lease})
	b := openNode(t, t.TempDir(), Options{Registry: url, Lease: lease})
	mustSave(t, a, "x", 0, "a=1")
	load(t, b, "x", always, always)
	if err := b.Forget(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "has version") {
		t.Errorf("it is not lost: %v", err)
	}
	if err := b.Forget(t.Context(), "y"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	mustSave(t, a, "x", 1, "a=2")
	mustSave(t, a, "y", 0, "a=3")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x", "y"} {
		if _, err := b.Save(t.Context(), name, rowsOf(t, 5, "a=5")); !errors.Is(err, ErrSyncFailed) {
			t.Errorf("%s: %v", name, err)
		}
		until(t, "it is forgotten", func() bool { return b.Forget(t.Context(), name) == nil })
	}
	until(t, "the older version", func() bool { return b.reg.table(keyOf("x")).Version == 1 })
	if got := load(t, b, "x", always, always); got != "0 1\n" {
		t.Errorf("%q", got)
	}
	if v := mustSave(t, b, "x", 5, "a=5"); v != 2 {
		t.Errorf("version %d", v)
	}
	if v := mustSave(t, b, "y", 5, "a=5"); v != 1 {
		t.Errorf("version %d", v)
	}
	back := openNode(t, a.disk.dir, Options{Registry: url, Lease: lease})
	until(t, "what it has is kept under other names", func() bool {
		all, err := back.List(t.Context())
		return err == nil && len(all) == 4
	})
	if got := load(t, back, "y", always, always); got != "5 5\n" {
		t.Errorf("%q", got)
	}
}

// TestRecordLostOlderAlive checks that an older version does not become the newest when
// the registry loses a record whose only holder is dead.
func TestRecordLostOlderAlive(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
	mustSave(t, a, "x", 0, "a=1")
	load(t, b, "x", always, always)
	mustSave(t, a, "x", 1, "a=2")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.reg.kv.Delete(t.Context(), "t."+keyOf("x")); err != nil {
		t.Fatal(err)
	}
	n := openNode(t, t.TempDir(), Options{Registry: url})
	if _, err := n.Load(t.Context(), "x", always, always); !errors.Is(err, ErrSyncFailed) {
		t.Errorf("load: %v", err)
	}
	if v, err := n.Save(t.Context(), "x", rowsOf(t, 5, "a=9")); !errors.Is(err, ErrSyncFailed) {
		t.Errorf("save: version %d, %v", v, err)
	}
}

// TestNameIsText checks that Save rejects a name that JSON would change.
func TestNameIsText(t *testing.T) {
	t.Parallel()
	_, url := registryOf(t)
	n := openNode(t, t.TempDir(), Options{Registry: url})
	if _, err := n.Save(t.Context(), "x\xff", rowsOf(t, 0, "a=1")); err == nil {
		t.Error("a name that is no UTF-8 was taken")
	}
}
