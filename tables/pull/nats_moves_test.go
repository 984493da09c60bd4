//go:build unix

package pull

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/objstore"
)

// TestRegistryMoves kills the process that runs a machine's registry. Another process then runs the
// registry, in one case with an outdated copy of the registry on its disk. Loads must return the
// saved rows.
func TestRegistryMoves(t *testing.T) {
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	port := portOf(t, l.Addr().String())
	must.Do(t, l.Close())
	children := make([]*child, 3)
	for i := range children {
		children[i] = &child{dir: t.TempDir(), port: port}
	}
	h, saves := newHistory(), 0
	save := func(c *child) {
		t.Helper()
		waitFor(t, "a save", func() bool { saves++; return h.save(c, saves) == nil })
	}
	// loadsNewest loads until the result is the newest version. Earlier results must not be
	// older than promised, and the table must exist.
	loadsNewest := func(c *child) {
		t.Helper()
		waitFor(t, "the newest version", func() bool {
			began := time.Now()
			text, err := c.ask("x")
			if err == nil {
				must.Get(h.check(text, began))(t)
				_, err = h.check(text, began.Add(killLease))
			} else if !strings.Contains(err.Error(), ErrSyncFailed.Error()) {
				t.Fatal(err)
			}
			return err == nil
		})
	}
	first, second, third := children[0], children[1], children[2]
	first.start(t) // runs the registry
	save(first)
	second.start(t)
	third.start(t)
	loadsNewest(second)
	save(second)
	loadsNewest(third)
	first.Kill()
	loadsNewest(third)
	loadsNewest(second)
	save(third)
	first.start(t)
	loadsNewest(first)
	loadsNewest(second)
	save(second) // the first process does not load this version
	second.Kill()
	third.Kill() // the first process starts the registry again, with outdated content
	second.start(t)
	loadsNewest(first)
	loadsNewest(second)
	save(first)
	loadsNewest(second)
}

// TestBackupKilled kills processes during backups. A backup must be complete if it is
// listed.
func TestBackupKilled(t *testing.T) {
	t.Parallel()
	s := must.Get(startServer(t.TempDir(), server.RANDOM_PORT, ""))(t)
	defer s.Shutdown()
	c := &child{dir: t.TempDir(), url: s.ClientURL()}
	c.start(t)
	h, directory := newHistory(), t.TempDir()
	for round := range 15 {
		waitFor(t, "a save", func() bool { return h.save(c, round) == nil })
		killTimer := c.KillAfter(time.Duration(rand.IntN(12000)) * time.Microsecond)
		_, err := c.ask(fmt.Sprintf("backup %s %d", directory, round))
		if !killTimer.Stop() {
			c.Kill()
			c.start(t)
		} else if err != nil {
			t.Error(err)
		}
	}
	must.Get(c.ask("backup " + directory + " last"))(t)
	b := must.Get(objstore.OpenDirectory(directory))(t)
	all, err := Backups(t.Context(), b)
	if err != nil || len(all) == 0 || all[len(all)-1].Name != "last" {
		t.Fatalf("Backups = %+v, %v, want the newest to be %q", all, err, "last")
	}
	t.Logf("%d backups", len(all))
	for _, i := range all {
		_, url := startRegistry(t)
		n := openNode(t, t.TempDir(), Options{Registry: url})
		if _, err := n.Restore(t.Context(), b, i.Name); err != nil {
			t.Error(i.Name, err)
			continue
		}
		text := strings.ReplaceAll(load(t, n, "x", noBound, noBound), "\n", ";")
		if newest, err := h.check(text, time.Time{}); err != nil || i.Name != "last" && fmt.Sprint(newest) != i.Name {
			t.Errorf("backup %s contains save %d, error %v; want the save that its name gives", i.Name, newest, err)
		}
	}
	if entries, err := os.ReadDir(directory); err != nil || len(entries) != 2 {
		t.Errorf("the backup directory contains %v, %v, want 2 entries", entries, err)
	}
}
