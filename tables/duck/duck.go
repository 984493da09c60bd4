// Package duck runs SQL over the tables of a store with DuckDB, which is linked into the
// program.
//
// A query is a single SELECT statement. It sees the tables that it names, as they were when the query began, but no
// other files, settings or environment variables. Each query runs on its own connection to an in-memory database,
// which contains only these tables. See docs/sql.md.
//
// The package needs cgo. Without cgo, or on a platform that DuckDB does not support, programs still
// build, but every query returns an error that wraps errors.ErrUnsupported.
package duck

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
	"github.com/go-partd/partd/tables/internal/sql/sqlwrite"
	"github.com/go-partd/partd/tables/internal/sql/worker"
)

// Defaults of Options.
const (
	DefaultMemory  = 512 << 20
	DefaultMaxTemp = 16 << 30
	DefaultQueries = 16
)

// MaxSQL is the maximum length of a statement, in bytes.
const MaxSQL = sqlwrite.MaxSQL

// Options configures New. Nil or a zero field selects the defaults.
type Options struct {
	// Memory limits the memory of one query, in bytes. 0 means [DefaultMemory].
	Memory int64

	// Total limits the memory of all queries together, in bytes. It must be at least 32 MiB times
	// Queries. Half of it is divided equally among the queries. The other half is shared: a query can borrow up
	// to 50% of the bytes that are unused in that half at that moment. 0 means Queries times Memory.
	Total int64

	// Threads is the number of threads of a query. 0 means GOMAXPROCS.
	Threads int

	// TempDir is the parent of the engine's temporary directory, for data that exceeds Memory and for
	// rows that are not yet in a data file. Close removes the temporary directory, and New removes the
	// temporary directories of dead processes. "" means the system's directory for temporary files.
	TempDir string

	// MaxTemp limits the bytes that one query stores in TempDir. 0 means [DefaultMaxTemp].
	MaxTemp int64

	// Queries limits the number of concurrent queries; others wait. A query runs until its reader is
	// released. 0 means [DefaultQueries].
	Queries int

	// Processes runs each query in a separate process, which executes this program. So main must call [RunWorker]
	// first. The process is killed when the query's context ends. The process's memory is limited to the query's share
	// plus a fixed amount (see docs/sql.md), and a crash affects no other query. On Windows, New returns an error that
	// wraps errors.ErrUnsupported.
	Processes bool
}

// RunWorker returns immediately, unless an engine with Options.Processes started this process. In that case, RunWorker
// runs queries and then exits.
func RunWorker() { worker.Main() }

// ErrNotPerKey is wrapped by the error of [Each] for a statement whose results could differ if it runs once for each
// part of the rows. The error says which clause is the reason.
var ErrNotPerKey = sqltext.ErrNotPerKey

// DefaultEachMemory is the default limit for the memory of [Each], in bytes.
const DefaultEachMemory = 256 << 20

// EachInput is an input of [Each]: rows that the statement sees under a name.
type EachInput struct {
	Name string
	Rows array.RecordReader
	// By names the key columns. All inputs must name the same number of columns, and columns at the same position must
	// have comparable types. If By is empty for all inputs, [Each] chooses the largest key for which it can prove that
	// the statement may run once for each part.
	By []string
}

// EachOptions configures [Each]. Nil or a zero field selects the defaults.
type EachOptions struct {
	Memory int64 // approximate limit of memory in bytes; 0 means [DefaultEachMemory]
	// Parts is the number of parts. If it is 0, Each makes as many parts as Memory requires. It divides a part if the
	// statement needs too much memory for it, so that a part's result is complete before Each yields it.
	Parts int
	Temp  string // directory for temporary data; "" means the system's
	// Trust runs the statement exactly as written, even if Each cannot prove that it may run once for each part.
	Trust bool
}

// EachPlan says how [Each] runs a statement.
type EachPlan struct {
	Memory    int64           `json:"memory"`     // memory limit for a part's statement, in bytes
	PartBytes int64           `json:"part_bytes"` // maximum size of a part with several keys, in bytes of Arrow's memory, unless the number of parts is given
	Inputs    []EachPlanInput `json:"inputs"`
	Result    *arrow.Schema   `json:"-"` // columns of the result
}

// EachPlanInput describes an input in an [EachPlan].
type EachPlanInput struct {
	Name    string   `json:"name"`
	By      []string `json:"by"`
	Columns []string `json:"columns"` // columns that the statement can read; the others are dropped at once
}
