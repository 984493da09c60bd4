package icecat

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// sealed returns a new catalog with 100 pages or more, after a checkpoint.
func sealed(t *testing.T, o Options) (dir string, c *Catalog) {
	t.Helper()
	dir, o.FS = t.TempDir(), vfs.OS{}
	c, err := Open(t.Context(), dir, o)
	succeed(t, err)
	for range 2 {
		succeed(t, c.inTx(t.Context(), func(w *transaction) {
			w.exec(`INSERT INTO partd_orphans WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s WHERE i<1000) SELECT hex(randomblob(100)), i FROM s`)
		}))
		succeed(t, c.checkpoint())
	}
	return dir, c
}

func succeed(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// execElsewhere runs an SQL statement as another program would.
func execElsewhere(t *testing.T, dir, q string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "catalog.db"))
	succeed(t, err)
	_, err = db.Exec(q)
	succeed(t, errors.Join(err, db.Close()))
}

// TestVacuum makes the database smaller in another program, which is no damage.
func TestVacuum(t *testing.T) {
	dir, c := sealed(t, Options{})
	succeed(t, c.inTx(t.Context(), func(w *transaction) { w.exec(`DELETE FROM partd_orphans`) }))
	succeed(t, c.checkpoint())
	execElsewhere(t, dir, "VACUUM")
	succeed(t, c.CheckFiles())
	c.committed()
	succeed(t, c.checkpoint())
	succeed(t, c.CheckFiles())
	succeed(t, c.Close())
	c, err := Open(t.Context(), dir, Options{FS: vfs.OS{}})
	succeed(t, err)
	succeed(t, c.Close())
}

// TestKilledCheckpoint ends a process during a checkpoint. Then another program ends the checkpoint, and removes the
// log.
func TestKilledCheckpoint(t *testing.T) {
	dir, c := sealed(t, Options{})
	succeed(t, c.inTx(t.Context(), func(w *transaction) { w.exec(`DELETE FROM partd_orphans WHERE seen_ms=1`) }))
	killed := filepath.Join(t.TempDir(), "killed")
	succeed(t, c.transact(t.Context(), func(w *transaction) {
		w.err = errors.Join(c.files.record(func() error { return nil }), os.CopyFS(killed, os.DirFS(dir)))
	}))
	succeed(t, c.Close())
	execElsewhere(t, killed, "SELECT * FROM partd_info")
	c, err := Open(t.Context(), killed, Options{FS: vfs.OS{}})
	succeed(t, err)
	succeed(t, c.Close())
}

// TestCloseDuringCheckpoint checks that Close waits for a checkpoint.
func TestCloseDuringCheckpoint(t *testing.T) {
	var running atomic.Int64
	_, c := sealed(t, Options{Committing: func(done bool) {
		if done {
			running.Add(-1)
		} else {
			running.Add(1)
			time.Sleep(20 * time.Millisecond)
		}
	}})
	c.committed()
	c.timer.Reset(0)
	time.Sleep(10 * time.Millisecond)
	succeed(t, c.Close())
	if n := running.Load(); n > 0 {
		t.Errorf("%d transactions run after Close", n)
	}
}

// TestEmptyCatalog opens a store with an empty catalog.db, which a failed rebuild can leave.
func TestEmptyCatalog(t *testing.T) {
	dir, c := sealed(t, Options{})
	succeed(t, c.NewIO().WriteFile(c.location("data/t/data/file"), []byte("1")))
	succeed(t, c.Close())
	for _, suffix := range []string{"", "-wal", "-shm", "-sums"} {
		succeed(t, ignoreMissing(os.Remove(filepath.Join(dir, "catalog.db"+suffix))))
	}
	succeed(t, os.WriteFile(filepath.Join(dir, "catalog.db"), nil, 0o644))
	if _, err := Open(t.Context(), dir, Options{FS: vfs.OS{}}); !errors.Is(err, ErrContent) {
		t.Errorf("Open returned %v, want ErrContent", err)
	}
}
