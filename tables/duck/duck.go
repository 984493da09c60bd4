// Package duck runs SQL over the tables of a store with DuckDB, which is linked
// into the program.
//
// Each query has a database of its own, in memory, that can read the files of the
// tables that the query names, as they were when it began, and nothing else: one
// SELECT, no other files, no settings, no environment. See docs/sql.md.
//
// It needs cgo. Without it, or on a platform that DuckDB is not built for, all
// builds, and each query returns an error that wraps errors.ErrUnsupported.
package duck

import "github.com/go-partd/partd/tables/internal/worker"

// The defaults of Options.
const (
	DefaultMemory  = 512 << 20
	DefaultMaxTemp = 16 << 30
	DefaultQueries = 16
)

// MaxSQL is the length of the longest statement, in bytes.
const MaxSQL = 256 << 10

// Options of an engine. The zero value, and nil, are the defaults.
type Options struct {
	// Memory is what one query may hold, in bytes. 0 means [DefaultMemory].
	Memory int64

	// Total is what all queries hold together, 16 MiB times twice Queries or more:
	// each may have an equal part of half of it, and half of what others left of
	// the rest. 0 means Queries times Memory.
	Total int64

	// Threads is how many a query runs on. 0 means as many as GOMAXPROCS.
	Threads int

	// TempDir is where queries put what exceeds Memory, and rows that are in no
	// file yet, in a directory that Close removes. What a process left that died,
	// the next New removes. "" means that of the system.
	TempDir string

	// MaxTemp bounds what one query puts there, in bytes. 0 means [DefaultMaxTemp].
	MaxTemp int64

	// Queries is how many run at a time; more wait. A query runs until its reader
	// is released. 0 means [DefaultQueries].
	Queries int

	// Processes runs each query in a process of its own: this program, started
	// again, whose main has to call [RunWorker] first. Such a process is killed when
	// the query's context ends, may hold no more than its part of the memory and
	// what is fixed (see docs/sql.md), and takes nothing else down with it. On
	// Windows there are none.
	Processes bool
}

// RunWorker does the work, and ends the process, if an engine with Options.Processes
// started it for a query.
func RunWorker() { worker.Main() }
