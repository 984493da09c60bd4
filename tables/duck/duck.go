// Package duck runs SQL over the tables of a store with DuckDB, which is linked into the
// program.
//
// A query is a single SELECT that reads the tables it names, in their state when it began,
// and nothing else: no other files, settings or environment variables. It runs in an
// in-memory database that has only these tables, in a connection of its own. See docs/sql.md.
//
// The package needs cgo. Without cgo, or on a platform that DuckDB does not support,
// programs still build, but every query returns an error that wraps errors.ErrUnsupported.
package duck

import "github.com/go-partd/partd/tables/internal/worker"

// The defaults of Options.
const (
	DefaultMemory  = 512 << 20
	DefaultMaxTemp = 16 << 30
	DefaultQueries = 16
)

// MaxSQL is the maximum length of a statement, in bytes.
const MaxSQL = 256 << 10

// Options are the options of New. The zero value, and nil, are the defaults.
type Options struct {
	// Memory limits the memory of one query, in bytes. 0 means [DefaultMemory].
	Memory int64

	// Total limits the memory of all queries together, in bytes, and must be at least 32
	// MiB times Queries. Half of it is divided equally among the queries. From the other
	// half, a query may take half of what the others have left. 0 means Queries times
	// Memory.
	Total int64

	// Threads is the number of threads of a query. 0 means GOMAXPROCS.
	Threads int

	// TempDir is where queries store data beyond Memory, and rows that no file has yet.
	// They use a new directory there, which Close removes. New removes those that dead
	// processes left behind. "" means the system's directory for temporary files.
	TempDir string

	// MaxTemp limits what one query stores in TempDir, in bytes. 0 means [DefaultMaxTemp].
	MaxTemp int64

	// Queries limits how many queries run at once; others wait. A query runs until its
	// reader is released. 0 means [DefaultQueries].
	Queries int

	// Processes runs each query in a separate process: this program, started again. Its
	// main must call [RunWorker] first. A query's process is killed when the context of the
	// query ends. It is limited to its share of the memory and a fixed amount (see
	// docs/sql.md), and harms nothing else if it crashes. On Windows, New returns an error
	// that wraps errors.ErrUnsupported.
	Processes bool
}

// RunWorker runs a query and exits if an engine with Options.Processes started this
// process. Otherwise it returns at once.
func RunWorker() { worker.Main() }
