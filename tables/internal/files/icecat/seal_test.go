package icecat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
)

// sealed returns a new catalog with 100 pages or more, after a checkpoint.
func sealed(t *testing.T, o Options) (dir string, c *Catalog) {
	t.Helper()
	dir, o.FS = t.TempDir(), vfs.OS{}
	c = must.Get(Open(t.Context(), dir, o))(t)
	for range 2 {
		must.Do(t, c.inTx(t.Context(), func(w *transaction) {
			w.exec(`INSERT INTO partd_orphans WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s WHERE i<1000) SELECT hex(randomblob(100)), i FROM s`)
		}))
		must.Do(t, c.checkpoint())
	}
	return dir, c
}

// execElsewhere runs an SQL statement as another program would.
func execElsewhere(t *testing.T, dir, q string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "catalog.db"))
	must.Do(t, err)
	_, err = db.Exec(q)
	must.Do(t, errors.Join(err, db.Close()))
}

// TestVacuum makes the database smaller in another program, which is no damage.
func TestVacuum(t *testing.T) {
	dir, c := sealed(t, Options{})
	must.Do(t, c.inTx(t.Context(), func(w *transaction) { w.exec(`DELETE FROM partd_orphans`) }))
	must.Do(t, c.checkpoint())
	execElsewhere(t, dir, "VACUUM")
	must.Do(t, c.CheckFiles())
	c.committed()
	must.Do(t, c.checkpoint())
	must.Do(t, c.CheckFiles())
	must.Do(t, c.Close())
	c = must.Get(Open(t.Context(), dir, Options{FS: vfs.OS{}}))(t)
	must.Do(t, c.Close())
}

// TestKilledCheckpoint ends a process during a checkpoint. Then another program ends the checkpoint, and removes the
// log.
func TestKilledCheckpoint(t *testing.T) {
	dir, c := sealed(t, Options{})
	must.Do(t, c.inTx(t.Context(), func(w *transaction) { w.exec(`DELETE FROM partd_orphans WHERE seen_ms=1`) }))
	killed := filepath.Join(t.TempDir(), "killed")
	must.Do(t, c.transact(t.Context(), func(w *transaction) {
		w.err = errors.Join(c.files.checkpointAndRecord(func() error { return nil }), os.CopyFS(killed, os.DirFS(dir)))
	}))
	must.Do(t, c.Close())
	execElsewhere(t, killed, "SELECT * FROM partd_info")
	c = must.Get(Open(t.Context(), killed, Options{FS: vfs.OS{}}))(t)
	must.Do(t, c.Close())
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
	must.Do(t, c.Close())
	if n := running.Load(); n > 0 {
		t.Errorf("%d transactions run after Close", n)
	}
}

// TestEmptyCatalog opens a store with an empty catalog.db, which a failed rebuild can leave.
func TestEmptyCatalog(t *testing.T) {
	dir, c := sealed(t, Options{})
	must.Do(t, c.NewIO().WriteFile(c.location("data/t/data/file"), []byte("1")))
	must.Do(t, c.Close())
	for _, suffix := range []string{"", "-wal", "-shm", "-sums"} {
		must.Do(t, ignoreMissing(os.Remove(filepath.Join(dir, "catalog.db"+suffix))))
	}
	must.Do(t, os.WriteFile(filepath.Join(dir, "catalog.db"), nil, 0o644))
	if _, err := Open(t.Context(), dir, Options{FS: vfs.OS{}}); !errors.Is(err, ErrContent) {
		t.Errorf("Open returned %v, want ErrContent", err)
	}
}

// TestDamagedFiles checks that Open fails if a bit flips in the first page, in another page, or in the log before later
// commits.
func TestDamagedFiles(t *testing.T) {
	dir, c := sealed(t, Options{})
	c.checkpoints.Lock() // so that the commits stay in the log
	for i := range 3 {
		must.Do(t, c.inTx(t.Context(), func(w *transaction) { w.putInfo("a", fmt.Sprint(i)) }))
	}
	for offset, name := range map[int]string{
		60: "catalog.db", 4*pageSize + 60: "catalog.db", walHeaderSize + 60: "catalog.db-wal",
	} {
		damaged := filepath.Join(t.TempDir(), "damaged")
		must.Do(t, os.CopyFS(damaged, os.DirFS(dir)))
		b := must.Get(os.ReadFile(filepath.Join(damaged, name)))(t)
		b[offset] ^= 1
		must.Do(t, os.WriteFile(filepath.Join(damaged, name), b, 0o600))
		if _, err := Open(t.Context(), damaged, Options{FS: vfs.OS{}}); !errors.Is(err, ErrContent) {
			t.Errorf("Open with a damaged byte %d in %s = %v, want %v", offset, name, err, ErrContent)
		}
	}
	c.checkpoints.Unlock()
	must.Do(t, c.Close())
	if sharedFiles.byPath[filepath.Join(dir, "catalog.db")] != nil {
		t.Error("Close left a file of the database open")
	}
}

// TestPanicInTransaction checks that a panic in a transaction ends it, so that later commits need not wait for it.
func TestPanicInTransaction(t *testing.T) {
	_, c := sealed(t, Options{})
	func() {
		defer func() { _ = recover() }()
		_ = c.inTx(t.Context(), func(w *transaction) {
			w.exec(`DELETE FROM partd_orphans`)
			panic("planted")
		})
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must.Do(t, c.inTx(ctx, func(w *transaction) {
		if n := len(w.queryStrings(`SELECT path FROM partd_orphans LIMIT 1`)); n != 1 {
			t.Error("the changes before the panic were committed")
		}
	}))
	must.Do(t, c.Close())
}

// TestErrorNamesCatalog checks that errors of reads and changes name catalog.db if its contents cannot be read. Another
// program has overwritten all pages but the first.
func TestErrorNamesCatalog(t *testing.T) {
	dir, c := sealed(t, Options{})
	path := filepath.Join(dir, "catalog.db")
	b := must.Get(os.ReadFile(path))(t)
	for i := pageSize; i < len(b); i++ {
		b[i] = 0xff
	}
	must.Do(t, os.WriteFile(path, b, 0o644))
	must.Get(c.writePool.Exec(`PRAGMA shrink_memory`))(t)
	_, lookupErr := c.Location(t.Context(), "a", "t")
	_, queryErr := c.queryStrings(t.Context(), `SELECT path FROM partd_orphans`)
	changeErr := c.transact(t.Context(), func(w *transaction) { w.exec(`DELETE FROM partd_orphans`) })
	for what, err := range map[string]error{"lookup": lookupErr, "query": queryErr, "change": changeErr} {
		if failed := (*fs.PathError)(nil); !errors.As(err, &failed) || failed.Path != "catalog.db" {
			t.Errorf("%s: error %v, want one that names catalog.db", what, err)
		}
	}
}
