//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/database"
	"github.com/go-partd/partd/tables/internal/worker"
)

// maxIdle limits the number of idle databases, which are kept for later statements because opening a database takes
// 20 ms of CPU time and 3 MB, or 100 ms in a separate process. At most half of them are used databases, which can
// run only statements on the same tables in the same state; the others have not run a statement.
const maxIdle = 4

// lease is a database that one statement uses.
type lease struct {
	db  database.Runner
	key string // identifies the statements that it can run (database.Job.Key); "" if it has run none

	wasIdle bool // whether the database was idle before this statement
}

// anyKey matches databases with any key.
const anyKey = "any"

// idleDatabases contains the idle databases, least recently used first.
type idleDatabases []lease

// choose returns the index of an idle database that can run a statement with a key, or -1. If the caller
// has other running statements, choose returns only unused databases, and reserves maxIdle/2 of them
// for other callers.
func (ds idleDatabases) choose(key string, hasOtherStatements bool) int {
	unused, unusedCount := -1, 0
	for i, d := range slices.Backward(ds) {
		switch {
		case d.key == "":
			unused = i
			unusedCount++
		case !hasOtherStatements && (key == anyKey || key == d.key):
			return i
		}
	}
	if hasOtherStatements && unusedCount <= maxIdle/2 {
		return -1
	}
	return unused
}

// remove removes and returns the database at an index.
func (ds *idleDatabases) remove(i int) lease {
	d := (*ds)[i]
	*ds = slices.Delete(*ds, i, i+1)
	return d
}

// add adds a used database. If there are now too many databases, including the pending ones that are still
// being opened, add removes one and returns it; otherwise, it returns nil.
func (ds *idleDatabases) add(d lease, pending int) database.Runner {
	*ds = append(*ds, d)
	usedCount := 0
	for _, other := range *ds {
		if other.key != "" {
			usedCount++
		}
	}
	tooManyUsed := usedCount > maxIdle/2
	if !tooManyUsed && len(*ds)+pending <= maxIdle {
		return nil
	}
	i := slices.IndexFunc(*ds, func(other lease) bool { return (other.key != "") == tooManyUsed })
	return ds.remove(max(i, 0)).db // i is -1 if all unused databases are pending
}

// acquireDatabase returns a database for a statement with the given key.
func (e *Engine) acquireDatabase(ctx context.Context, key string) (lease, error) {
	for {
		e.mu.Lock()
		i := e.idle.choose(key, worker.HasOtherJobs(ctx))
		if i < 0 || e.isClosed() {
			e.mu.Unlock()
			db, err := e.open(ctx)
			return lease{db: db}, err
		}
		d := e.idle.remove(i)
		e.mu.Unlock()
		if d.wasIdle = true; d.db.IsAlive() {
			return d, nil
		}
		d.db.Close()
	}
}

// giveBack ends the lease of a database. The database becomes idle or is closed.
func (e *Engine) giveBack(d lease) {
	if e.opts.Processes { // in the background, because recycle waits for the database's process
		e.runInBackground(d.db, func() { e.recycle(d) })
	} else {
		e.recycle(d)
	}
}

// runInBackground runs f in the background, or closes db if the engine is closed.
func (e *Engine) runInBackground(db database.Runner, f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case !e.isClosed():
		e.background.Go(f)
	case db != nil:
		db.Close()
	}
}

// recycle makes a database idle if it can run another statement. If there are fewer than maxIdle idle
// databases, recycle opens one in the background, because opening a database takes longer than a small
// statement.
func (e *Engine) recycle(d lease) {
	reusable := d.key != "" && d.db.Reuse()
	e.mu.Lock()
	if e.isClosed() {
		e.mu.Unlock()
		d.db.Close()
		return
	}
	db := d.db
	if reusable {
		db = e.idle.add(d, e.pending)
	}
	needsNew, dir := len(e.idle)+e.pending < maxIdle, ""
	if needsNew {
		e.pending++
		e.openCount++
		dir = e.spillDir()
	}
	e.mu.Unlock()
	if db == nil && !needsNew {
		return
	}
	e.runInBackground(db, func() {
		if !needsNew {
			db.Close()
			return
		}
		unused := e.newUnused(db, dir)
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.pending--; unused != nil {
			e.idle = append(e.idle, lease{db: unused})
		}
	})
}

// newUnused returns an unused database: db, reopened, or a new database. It returns nil on failure, because
// the next statement that opens a database returns the error.
func (e *Engine) newUnused(db database.Runner, dir string) database.Runner {
	const pause = 5 * time.Millisecond // lets a waiting statement, or Close, go first
	if db != nil {
		if db.Reopen(e.limits(), dir) {
			return db
		}
		db.Close()
	}
	select {
	case <-e.closed.Done():
		return nil
	case <-time.After(pause):
	}
	unused, err := e.open(context.Background())
	if err != nil {
		return nil
	}
	if unused.Ready(e.closed) != nil {
		unused.Close()
		return nil
	}
	return unused
}

// spillDir returns the directory for data that exceeds the memory of the newest database. mu must be held.
func (e *Engine) spillDir() string { return filepath.Join(e.dir, fmt.Sprintf("spill-%d", e.openCount)) }

func (e *Engine) isClosed() bool { return e.closed.Err() != nil }

// limits returns the options of a new database.
func (e *Engine) limits() *database.Options {
	return &database.Options{Memory: e.opts.Memory, MaxTemp: e.opts.MaxTemp, Threads: e.opts.Threads}
}

func (e *Engine) open(ctx context.Context) (database.Runner, error) {
	e.mu.Lock()
	if e.isClosed() {
		e.mu.Unlock()
		return nil, tables.ErrClosed
	}
	e.openCount++
	dir := e.spillDir()
	e.mu.Unlock()
	if e.opts.Processes {
		return database.OpenProcess(ctx, e.limits(), dir)
	}
	return database.Open(e.limits(), dir)
}
