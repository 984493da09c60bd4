//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sql/database"
	"github.com/go-partd/partd/tables/internal/sql/worker"
)

// A worker process keeps the memory that its statements used, which makes its next statement faster. A process that
// has grown by more than smallGrowth is replaced between one and two warmPeriods after its last statement.
const (
	smallGrowth = 32 << 20
	warmPeriod  = 2 * time.Second
)

// maxIdle limits the number of databases that are kept for later statements. Opening a new database takes 20 ms of CPU
// time and 3 MB, or 100 ms in a separate process. At most half of the kept databases are used: a used database has run
// a statement, and can now run only statements on the same tables in the same state.
const maxIdle = 4

// maxWait is about the time to start a process.
const maxWait = 100 * time.Millisecond

// lease is a database that one statement uses, or that is idle.
type lease struct {
	db  database.Runner
	key string // identifies the statements that the database can run (database.Job.Key); "" if the database has run none yet

	wasIdle   bool      // whether the database was idle before this statement
	isShared  bool      // whether the lease holds a permit of Engine.awaitShared
	hasGrown  bool      // whether the database's process has grown by more than smallGrowth
	idleSince time.Time // when a used database became idle
}

// recycling is a database that is being prepared for its next statement.
type recycling struct {
	db   database.Runner
	key  string
	done chan struct{}
}

const anyKey = "any"

// idleDatabases contains the idle databases, least recently used first.
type idleDatabases []lease

// choose returns the index of an idle database that can run a statement with a key, or -1. If the caller
// has other running statements, choose reserves maxIdle/2 of the databases that have run no statement for other
// callers. It then returns a database that has run a statement only if isShared.
func (ds idleDatabases) choose(key string, hasOtherStatements, isShared bool) int {
	unused, unusedCount := -1, 0
	for i, d := range slices.Backward(ds) {
		switch {
		case d.key == "":
			unused = i
			unusedCount++
		case (isShared || !hasOtherStatements) && (key == anyKey || key == d.key):
			return i
		}
	}
	if hasOtherStatements && unusedCount <= maxIdle/2 {
		return -1
	}
	return unused
}

func (ds *idleDatabases) remove(i int) lease {
	d := (*ds)[i]
	*ds = slices.Delete(*ds, i, i+1)
	return d
}

// add adds a used database. If there are then too many databases, including the pending databases, which are still
// being opened, add removes and returns one of them. Otherwise, it returns nil.
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

func (ds idleDatabases) grown() (n int) {
	for _, d := range ds {
		if d.hasGrown {
			n++
		}
	}
	return n
}

// removeGrown removes and returns the databases whose processes have grown and for which matches returns true. It does
// not call matches for other databases.
func (ds *idleDatabases) removeGrown(matches func(lease) bool) (removed idleDatabases) {
	*ds = slices.DeleteFunc(*ds, func(d lease) bool {
		isRemoved := d.hasGrown && matches(d)
		if isRemoved {
			removed = append(removed, d)
		}
		return isRemoved
	})
	return removed
}

func (ds idleDatabases) close() {
	for _, d := range ds {
		d.db.Close()
	}
}

// awaitShared waits for a permit to use idle databases that have run a statement. Only statements whose callers have
// other running statements need one. Few such statements have a permit at a time, because they run with normal
// priority. After maxWait, awaitShared returns false. It does not wait if all permits have been in use for that long,
// because their statements may run for hours.
func (e *Engine) awaitShared(ctx context.Context) bool {
	if !worker.HasOtherJobs(ctx) {
		return false
	}
	e.mu.Lock()
	wait := max(0, maxWait-time.Since(e.lastShared))
	e.mu.Unlock()
	select {
	case e.shared <- struct{}{}:
	default:
		select {
		case e.shared <- struct{}{}:
		case <-ctx.Done():
			return false
		case <-time.After(wait):
			return false
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lastShared = time.Now()
	return true
}

func (e *Engine) acquireDatabase(ctx context.Context, key string, isShared bool) (lease, error) {
	hasOthers := worker.HasOtherJobs(ctx)
	if isShared || !hasOthers {
		e.awaitRecycling(ctx, key)
	}
	for {
		e.mu.Lock()
		var d lease
		if i := e.idle.choose(key, hasOthers, isShared); i >= 0 && !e.isClosed() {
			d = e.idle.remove(i)
			d.wasIdle = true
		}
		excess := e.removeExcess()
		e.mu.Unlock()
		excess.close()
		if d.db == nil {
			if isShared { // open it with normal priority, so that it can be reused
				ctx = worker.WithCaller(ctx, "", func() bool { return false })
			}
			db, err := e.open(ctx)
			return lease{db: db}, err
		}
		if d.db.IsAlive() {
			return d, nil
		}
		d.db.Close()
	}
}

// If the only used database that can run a statement with the given key is still being prepared, awaitRecycling waits
// for it briefly. Preparing takes a millisecond or two. An unused database would have to read the files' footers again.
func (e *Engine) awaitRecycling(ctx context.Context, key string) {
	e.mu.Lock()
	i := e.idle.choose(key, false, false)
	k := slices.IndexFunc(e.recycling, func(r recycling) bool { return r.key != "" && (key == anyKey || key == r.key) })
	if k < 0 || i >= 0 && e.idle[i].key != "" {
		e.mu.Unlock()
		return
	}
	done := e.recycling[k].done
	e.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
	case <-time.After(e.recyclingWait):
	}
}

// removeExcess limits the memory of idle databases whose processes have grown. It removes the oldest of these databases
// until their number plus the number of running statements is at most Options.Queries. mu must be held.
func (e *Engine) removeExcess() idleDatabases {
	excess := len(e.slots) + e.idle.grown() - e.opts.Queries
	return e.idle.removeGrown(func(lease) bool {
		excess--
		return excess >= 0
	})
}

// removeCold replaces idle databases whose processes have grown and have run no statement for warmPeriod.
func (e *Engine) removeCold() {
	e.mu.Lock()
	if e.isClosed() {
		e.mu.Unlock()
		return
	}
	cold := e.idle.removeGrown(func(d lease) bool { return time.Since(d.idleSince) >= warmPeriod })
	e.hasTimer = false
	e.startTimer()
	e.mu.Unlock()
	for _, d := range cold {
		d.key = "" // so that recycle replaces it
		e.giveBack(d)
	}
}

// startTimer makes removeCold run after warmPeriod if an idle database's process has grown. mu must be held.
func (e *Engine) startTimer() {
	if !e.hasTimer && e.idle.grown() > 0 {
		e.hasTimer = true
		time.AfterFunc(warmPeriod, e.removeCold)
	}
}

// giveBack ends the lease of a database. The database becomes idle or is closed.
func (e *Engine) giveBack(d lease) {
	if !e.opts.Processes {
		e.recycle(d)
		return
	}
	// Recycle in the background, because recycling waits for the database's process.
	e.mu.Lock()
	e.recycling = append(e.recycling, recycling{d.db, d.key, make(chan struct{})})
	e.mu.Unlock()
	e.runInBackground(d.db, func() { e.recycle(d) })
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
	if d.isShared {
		d.isShared = false
		defer func() { <-e.shared }()
	}
	var reuse database.Reuse
	if d.key != "" {
		reuse = d.db.Reuse()
	}
	d.hasGrown, d.idleSince = reuse.Growth > smallGrowth, time.Now()
	reusable := reuse.IsPossible && (!d.hasGrown || reuse.Growth <= e.share())
	e.mu.Lock()
	if i := slices.IndexFunc(e.recycling, func(r recycling) bool { return r.db == d.db }); i >= 0 {
		close(e.recycling[i].done) // wakes the waiters, which then block until mu is released
		e.recycling = slices.Delete(e.recycling, i, i+1)
	}
	if e.isClosed() {
		e.mu.Unlock()
		d.db.Close()
		return
	}
	surplus := d.db // a database to reopen or close; nil if all are kept
	if reusable {
		surplus = e.idle.add(d, e.pending)
		e.startTimer()
	}
	excess := e.removeExcess()
	needsNew, dir := len(e.idle)+e.pending < maxIdle, ""
	if needsNew {
		e.pending++
		e.openCount++
		dir = e.spillDir()
	}
	e.mu.Unlock()
	excess.close()
	if surplus == nil && !needsNew {
		return
	}
	e.runInBackground(surplus, func() {
		if !needsNew {
			surplus.Close()
			return
		}
		unused := e.newUnused(surplus, dir)
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.pending--; unused != nil {
			e.idle = append(e.idle, lease{db: unused})
		}
	})
}

// newUnused returns an unused database. It reopens db if it can, and otherwise opens a new database. On failure, it
// returns nil; the next statement then opens a database itself, and returns the error.
func (e *Engine) newUnused(db database.Runner, dir string) database.Runner {
	const pause = 5 * time.Millisecond // gives a waiting statement, or Close, time to go first
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
