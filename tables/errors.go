package tables

import (
	"errors"
	"strings"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sqlerror"
)

var (
	// ErrNotFound is wrapped by the error for a table or version that is not there.
	ErrNotFound = commit.ErrNotFound

	// ErrExists is wrapped by the error of a put in mode PutError to a table that is there.
	ErrExists = icecat.ErrExists

	// ErrNotEmpty is wrapped by the error for a bucket that has tables or snapshots.
	ErrNotEmpty = errors.New("not empty")

	// ErrInUse is wrapped by the error of Open where another Store has the
	// directory's tail. The error names its process where it is known.
	ErrInUse = partd.ErrInUse

	// ErrReadOnly is wrapped by the error of what would change a Store with
	// Options.ReadOnly.
	ErrReadOnly = commit.ErrReadOnly

	// ErrClosed is wrapped by every operation on a closed Store.
	ErrClosed = partd.ErrClosed

	// ErrDamaged is wrapped by the error for a table with a file that is missing or does
	// not hold what was written. Other tables are not concerned. What works on many tables
	// goes on with the others, and returns the error at the end.
	ErrDamaged = icecat.ErrContent

	// ErrConflict is wrapped by the error of a commit that lost to others'
	// commits again and again. Nothing of it was applied.
	ErrConflict = commit.ErrConflict

	// ErrTxnDone is wrapped by the error of what is asked of a Txn after the function that
	// Update ran has returned. It changes nothing.
	ErrTxnDone = errors.New("the transaction has ended")
)

// SchemaError says which column of a put or a scan does not fit.
type SchemaError = schema.Error

// ArgumentError says what is wrong with what an operation was given.
type ArgumentError = definition.ArgumentError

// SQLError says where a statement is wrong.
type SQLError = sqlerror.Error

// OpError is the error of an operation on a store of tables.
type OpError struct {
	Op            string // the operation: "put", "scan", "fold", …
	Dir           string // the directory, where it is about the store as a whole
	Bucket, Table string // Table is "" where it is about a bucket or the store
	Err           error  // the cause
}

func (e *OpError) Error() string {
	var b strings.Builder
	b.WriteString("tables: " + e.Op)
	if e.Dir != "" {
		b.WriteString(" " + e.Dir)
	}
	if e.Table != "" {
		b.WriteString(" " + partd.QuoteKey(e.Table))
	}
	if e.Bucket != "" {
		b.WriteString(" in bucket " + partd.QuoteKey(e.Bucket))
	}
	return b.String() + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// failed says of an error which operation on which bucket or table it is of.
func failed(err *error, op, bucket, table string) {
	if *err != nil {
		*err = &OpError{Op: op, Bucket: bucket, Table: table, Err: *err}
	}
}
