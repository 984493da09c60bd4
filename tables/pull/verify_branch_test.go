package pull

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestRecordLostHolderDead deletes the registry's record of a version after the only node with that version has closed.
// In one case, another node has the previous version, which must not become the newest. Load must not report that the
// table does not exist, and Save must not create it again.
func TestRecordLostHolderDead(t *testing.T) {
	t.Parallel()
	for _, hasOlder := range []bool{false, true} {
		_, url := startRegistry(t)
		a, b := openNode(t, t.TempDir(), Options{Registry: url}), openNode(t, t.TempDir(), Options{Registry: url})
		mustSave(t, a, "x", 0, "a=1")
		if hasOlder {
			load(t, b, "x", noBound, noBound)
			mustSave(t, a, "x", 1, "a=2")
		}
		must.Do(t, a.Close())
		must.Do(t, b.reg.sync(t.Context(), time.Minute))
		must.Do(t, b.reg.nats.delete(t.Context(), "t."+keyOf("x")))
		n := b
		if hasOlder {
			n = openNode(t, t.TempDir(), Options{Registry: url})
		}
		must.Fail(t, must.Err(n.Load(t.Context(), "x", noBound, noBound)), ErrSyncFailed, "Load")
		if v, err := n.Save(t.Context(), "x", rowsOf(t, 5, "a=9")); !errors.Is(err, ErrSyncFailed) {
			t.Errorf("Save = version %d, %v, want ErrSyncFailed", v, err)
		}
	}
}

// branchOf waits until the other history of table x has a name with the given prefix, and returns it.
func branchOf(t *testing.T, n *Node, prefix string) (name string) {
	t.Helper()
	waitFor(t, "the other history to get a name", func() bool {
		all, err := n.List(t.Context())
		for _, table := range all {
			if strings.HasPrefix(table.Name, prefix) {
				name = table.Name
			}
		}
		return err == nil && name != ""
	})
	return name
}

// TestBranchIsKept creates a table again after the registry and the only node with the table's files are lost.
// When that node returns with more versions than the new table has, the nodes must keep the new table under another
// name.
func TestBranchIsKept(t *testing.T) {
	t.Parallel()
	s, url := startRegistry(t)
	const lease = 2 * time.Second
	a := openNode(t, t.TempDir(), Options{Registry: url, Lease: lease})
	mustSave(t, a, "x", 0, "a=1")
	mustSave(t, a, "x", 1, "a=2")
	must.Do(t, a.Close())
	s.Shutdown()
	s.WaitForShutdown()
	_, url = startRegistry(t)
	b := openNode(t, t.TempDir(), Options{Registry: url, Lease: lease})
	mustSave(t, b, "x", 0, "a=9")
	returned := openNode(t, a.disk.dir, Options{Registry: url, Lease: lease})
	branch := branchOf(t, returned, "x (version 1 of ")
	for _, n := range []*Node{b, returned} {
		wantRows(t, n, "x", "0 1\n1 2\n")
		wantRows(t, n, branch, "0 9\n")
	}
}

// TestDivergedHistories loses the registry, and two nodes continue the same table
// independently. No data may be lost, and the history with more versions must keep the name,
// whichever node returns.
func TestDivergedHistories(t *testing.T) {
	t.Parallel()
	for savesOfB := 1; savesOfB <= 3; savesOfB += 2 { // number of versions that b saves before it goes away
		s, url := startRegistry(t)
		const lease = 2 * time.Second
		a := openNode(t, t.TempDir(), Options{Registry: url, Lease: lease})
		mustSave(t, a, "x", 0, "a=1")
		b := openNode(t, t.TempDir(), Options{Registry: url, Lease: lease})
		load(t, b, "x", noBound, noBound)
		must.Do(t, a.Close())
		for i := range savesOfB {
			mustSave(t, b, "x", 10+i, "a=1")
		}
		must.Do(t, b.Close())
		s.Shutdown()
		s.WaitForShutdown()
		_, url = startRegistry(t)
		a = openNode(t, a.disk.dir, Options{Registry: url, Lease: lease})
		waitFor(t, "node a to restore its record", func() bool { return a.reg.table(keyOf("x")).Version == 1 })
		for i := range 2 {
			mustSave(t, a, "x", 20+i, "a=2")
		}
		b = openNode(t, b.disk.dir, Options{Registry: url, Lease: lease})
		waitFor(t, "the longer history to keep the name", func() bool { return a.reg.table(keyOf("x")).Version == int64(1+max(savesOfB, 2)) })
		rowsOfA, winningRows := "0 1\n20 2\n21 2\n", "0 1\n10 1\n11 1\n12 1\n"
		loser, losingRows := a, rowsOfA
		if savesOfB == 1 {
			loser, losingRows, winningRows = b, "0 1\n10 1\n", rowsOfA
		}
		for _, n := range []*Node{a, b} {
			wantRows(t, n, "x", winningRows)
		}
		branch := branchOf(t, loser, "x (version ")
		for _, n := range []*Node{a, b} {
			wantRows(t, n, branch, losingRows)
		}
	}
}

// TestForget checks that a version whose only holder (node with its files) is gone blocks the table's name until
// Forget gives the version up. Then the newest version of the other nodes becomes the newest of the table, and no
// data is lost when the holder returns.
func TestForget(t *testing.T) {
	t.Parallel()
	_, url := startRegistry(t)
	const lease = 2 * time.Second
	a := openNode(t, t.TempDir(), Options{Registry: url, Lease: lease})
	b := openNode(t, t.TempDir(), Options{Registry: url, Lease: lease})
	mustSave(t, a, "x", 0, "a=1")
	load(t, b, "x", noBound, noBound)
	must.Fail(t, b.Forget(t.Context(), "x"), "has version", "Forget of a version with a live holder")
	must.Fail(t, b.Forget(t.Context(), "y"), ErrNotFound, "Forget of an unknown table")
	mustSave(t, a, "x", 1, "a=2")
	mustSave(t, a, "y", 0, "a=3")
	must.Do(t, a.Close())
	for _, name := range []string{"x", "y"} {
		must.Fail(t, must.Err(b.Save(t.Context(), name, rowsOf(t, 5, "a=5"))), ErrSyncFailed, "Save(%q)", name)
		waitFor(t, "Forget to succeed", func() bool { return b.Forget(t.Context(), name) == nil })
	}
	waitFor(t, "the older version to become the newest", func() bool { return b.reg.table(keyOf("x")).Version == 1 })
	wantRows(t, b, "x", "0 1\n")
	if v := mustSave(t, b, "x", 5, "a=5"); v != 2 {
		t.Errorf("Save of x returned version %d, want 2", v)
	}
	if v := mustSave(t, b, "y", 5, "a=5"); v != 1 {
		t.Errorf("Save of y returned version %d, want 1", v)
	}
	returned := openNode(t, a.disk.dir, Options{Registry: url, Lease: lease})
	waitFor(t, "the returned versions to get other names", func() bool {
		all, err := returned.List(t.Context())
		return err == nil && len(all) == 4
	})
	wantRows(t, returned, "y", "5 5\n")
}
