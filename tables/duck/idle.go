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

// maxIdle is how many databases wait for a statement. One takes 20 ms of processor time to
// open, in a process of its own 100 ms, and 3 MB. At most half of them had one before, and
// wait for another one of the same tables, in the same state.
const maxIdle = 4

// lent is a database that one statement at a time has.
type lent struct {
	db  database.Runner
	key string // database.Job.Key of the statements that it runs; "": nobody used it

	waited bool // for this statement
}

// anyKey stands for those of all statements.
const anyKey = "any"

// idle are the databases that wait, the one used last at the end.
type idle []lent

// choose is the place of one that a statement may have, -1 without one. A caller who has another
// statement under way leaves those that had one, and maxIdle/2 that nobody used, to others: few can
// take the former.
func (all idle) choose(key string, hasOthers bool) int {
	unused, n := -1, 0
	for i, one := range slices.Backward(all) {
		switch {
		case one.key == "":
			unused = i
			n++
		case !hasOthers && (key == anyKey || key == one.key):
			return i
		}
	}
	if hasOthers && n <= maxIdle/2 {
		return -1
	}
	return unused
}

// remove takes out one.
func (all *idle) remove(at int) lent {
	one := (*all)[at]
	*all = slices.Delete(*all, at, at+1)
	return one
}

// keep adds one that had a statement, and takes out one that is too many with those to come, or nil.
func (all *idle) keep(one lent, coming int) database.Runner {
	*all = append(*all, one)
	kept := 0
	for _, one := range *all {
		if one.key != "" {
			kept++
		}
	}
	isKept := kept > maxIdle/2
	if !isKept && len(*all)+coming <= maxIdle {
		return nil
	}
	at := slices.IndexFunc(*all, func(one lent) bool { return (one.key != "") == isKept })
	return all.remove(max(at, 0)).db // all that nobody used may be to come
}

// take returns a database for a statement of a key.
func (e *Engine) take(ctx context.Context, key string) (lent, error) {
	for {
		e.mu.Lock()
		at := e.idle.choose(key, worker.HasOthers(ctx))
		if at < 0 || e.isClosed() {
			e.mu.Unlock()
			db, err := e.open(ctx)
			return lent{db: db}, err
		}
		one := e.idle.remove(at)
		e.mu.Unlock()
		if one.waited = true; one.db.Lives() {
			return one, nil
		}
		one.db.Close()
	}
}

// giveBack ends the use of a database, which waits for another statement, or ends.
func (e *Engine) giveBack(one lent) {
	if e.opts.Processes { // which has to be asked
		e.later(one.db, func() { e.settle(one) })
	} else {
		e.settle(one)
	}
}

// later does something with a database while nobody waits, and closes it once the engine is closed.
func (e *Engine) later(db database.Runner, do func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case !e.isClosed():
		e.opening.Go(do)
	case db != nil:
		db.Close()
	}
}

// settle keeps a database for another statement if it can have one. It makes one ready in the place
// of what is not kept, if there are not enough: closing and opening take longer than a small statement.
func (e *Engine) settle(one lent) {
	isKept := one.key != "" && one.db.Again()
	e.mu.Lock()
	if e.isClosed() {
		e.mu.Unlock()
		one.db.Close()
		return
	}
	db := one.db
	if isKept {
		db = e.idle.keep(one, e.coming)
	}
	wanted, dir := len(e.idle)+e.coming < maxIdle, ""
	if wanted {
		e.coming++
		e.opened++
		dir = e.spill()
	}
	e.mu.Unlock()
	if db == nil && !wanted {
		return
	}
	e.later(db, func() {
		if !wanted {
			db.Close()
			return
		}
		unused := e.another(db, dir)
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.coming--; unused != nil {
			e.idle = append(e.idle, lent{db: unused})
		}
	})
}

// another is a database in the place of one that was used, or of none; nil: there is none, and the
// statement that finds none says why.
func (e *Engine) another(db database.Runner, dir string) database.Runner {
	const pause = 5 * time.Millisecond // in which the next statement may begin, or Close
	if db != nil {
		if db.Renew(e.limits(), dir) {
			return db
		}
		db.Close()
	}
	select {
	case <-e.end.Done():
		return nil
	case <-time.After(pause):
	}
	unused, err := e.open(context.Background())
	if err != nil {
		return nil
	}
	if unused.Ready(e.end) != nil {
		unused.Close()
		return nil
	}
	return unused
}

// spill is a directory for what exceeds the memory. It wants mu.
func (e *Engine) spill() string { return filepath.Join(e.dir, fmt.Sprintf("spill-%d", e.opened)) }

func (e *Engine) isClosed() bool { return e.end.Err() != nil }

// limits are what a database begins with.
func (e *Engine) limits() *database.Options {
	return &database.Options{Memory: e.opts.Memory, MaxTemp: e.opts.MaxTemp, Threads: e.opts.Threads}
}

func (e *Engine) open(ctx context.Context) (database.Runner, error) {
	e.mu.Lock()
	if e.isClosed() {
		e.mu.Unlock()
		return nil, tables.ErrClosed
	}
	e.opened++
	dir := e.spill()
	e.mu.Unlock()
	if e.opts.Processes {
		return database.OpenProcess(ctx, e.limits(), dir)
	}
	return database.Open(e.limits(), dir)
}
