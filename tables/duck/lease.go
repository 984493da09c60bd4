//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"slices"
	"time"

	"github.com/go-partd/partd/tables/internal/sql/database"
)

// maxIdle limits the number of databases that are kept for later statements. Opening a new database takes 20 ms of CPU
// time and 3 MB, or 100 ms in a separate process. At most half of the kept databases are used: a used database has run
// a statement and can now run only statements on the same tables in the same state.
const maxIdle = 4

// lease is a database that one statement uses or that is idle.
type lease struct {
	db database.Runner
	// identifies the statements that the database can run (database.Job.Key); "" if the database has run none yet
	key string

	ready     chan struct{} // closed when the database is prepared for its next statement; nil if it has no process
	wasIdle   bool          // whether the database was idle before this statement
	hasGrown  bool          // whether the database's process has grown by more than smallGrowth
	idleSince time.Time     // when a used database became idle
}

const anyKey = "any"

// canRun reports whether a used database can run a statement with the given key.
func (l lease) canRun(key string) bool { return l.key != "" && (key == anyKey || key == l.key) }

// class says which idle databases a statement may use.
type class int

const (
	alone   class = iota // the caller has no other running statement: all databases
	sharing              // the caller has others, and the statement has a permit: all except the reserve
	crowded              // the caller has others, and the statement has no permit: unused databases except the reserve
)

// leases is a list of databases, least recently used first.
type leases []lease

// choose returns the index of an idle database that can run a statement with the given key, or -1. The reserve is
// maxIdle/2 of the databases that have run no statement. It is for callers without other running statements.
func (ls leases) choose(key string, c class) int {
	unused, unusedCount := -1, 0
	for i, l := range slices.Backward(ls) {
		if l.key == "" {
			unused = i
			unusedCount++
		} else if c != crowded && l.canRun(key) {
			return i
		}
	}
	if c != alone && unusedCount <= maxIdle/2 {
		return -1
	}
	return unused
}

func (ls *leases) remove(i int) lease {
	l := (*ls)[i]
	*ls = slices.Delete(*ls, i, i+1)
	return l
}

// add adds a used database. If there are then too many databases, including those that are still being opened, add
// removes and returns one of them. Otherwise, it returns nil.
func (ls *leases) add(l lease, opening int) database.Runner {
	*ls = append(*ls, l)
	tooManyUsed := ls.count(func(l lease) bool { return l.key != "" }) > maxIdle/2
	if !tooManyUsed && len(*ls)+opening <= maxIdle {
		return nil
	}
	i := slices.IndexFunc(*ls, func(l lease) bool { return (l.key != "") == tooManyUsed })
	return ls.remove(max(i, 0)).db // i is -1 if all unused databases are still being opened
}

func (ls leases) count(matches func(lease) bool) (n int) {
	for _, l := range ls {
		if matches(l) {
			n++
		}
	}
	return n
}

func (ls leases) countGrown() int { return ls.count(func(l lease) bool { return l.hasGrown }) }

// removeGrown removes and returns the databases whose processes have grown and for which matches returns true. It does
// not call matches for other databases.
func (ls *leases) removeGrown(matches func(lease) bool) (removed leases) {
	*ls = slices.DeleteFunc(*ls, func(l lease) bool {
		isRemoved := l.hasGrown && matches(l)
		if isRemoved {
			removed = append(removed, l)
		}
		return isRemoved
	})
	return removed
}

func (ls leases) close() {
	for _, l := range ls {
		l.db.Close()
	}
}
