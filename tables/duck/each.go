package duck

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// ErrNotPerKey is wrapped by the error of [Each] for a statement whose results could differ if it runs once for each
// part of the rows. The error says which clause is the reason.
var ErrNotPerKey = sqltext.ErrNotPerKey

// DefaultEachMemory is the default limit for the memory of [Each], in bytes.
const DefaultEachMemory = 256 << 20

// EachInput is an input of [Each]: rows that the statement sees under a name.
type EachInput struct {
	Name string
	Rows array.RecordReader
	// By names the key columns. All inputs have the same number, and columns at the same position have comparable types.
	// If it is empty for all inputs, [Each] takes the largest key with which it can prove the statement.
	By []string
}

// EachOptions configures [Each]. Nil or a zero field selects the defaults.
type EachOptions struct {
	Memory int64 // approximate limit of memory in bytes; 0 means [DefaultEachMemory]
	// Parts is the number of parts. If it is 0, Each makes as many parts as Memory requires. It divides a part if the
	// statement needs too much memory for it, so that a part's result is complete before Each yields it.
	Parts int
	Temp  string // directory for temporary data; "" means the system's
	// Trust runs the statement exactly as it is written, even if it is not proved that it can run once for each part.
	Trust bool
}

// EachPlan says how [Each] runs a statement.
type EachPlan struct {
	Memory    int64           `json:"memory"`     // limit for a part's statement, in bytes
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
