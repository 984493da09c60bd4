package tables

import (
	"errors"
	"strings"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/foreign"
)

var (
	// ErrNotFound is wrapped by the error for a missing table, version, bucket or snapshot.
	ErrNotFound = commit.ErrNotFound

	// ErrExists is wrapped by the error from an operation whose target already exists, such as a put in mode PutError.
	ErrExists = icecat.ErrExists

	// ErrNotEmpty is wrapped by the error from deleting a bucket that still has tables or snapshots.
	ErrNotEmpty = errors.New("not empty")

	// ErrInUse is wrapped by the error from Open if another Store has the tail open, and from Maintain if another pass
	// is running. Open's message names the other Store's process, if known.
	ErrInUse = partd.ErrInUse

	// ErrReadOnly is wrapped by the error from an operation that would change a read-only Store.
	ErrReadOnly = commit.ErrReadOnly

	// ErrPinned is wrapped by the error from an operation that requires a table's current state, such as a change, if
	// At has pinned the Table to an old state.
	ErrPinned = errors.New("the Table is pinned to an old state by At: use the Table from Bucket.Table")

	// ErrClosed is wrapped by the error from every operation on a closed Store.
	ErrClosed = partd.ErrClosed

	// ErrDamaged is wrapped by the error for a table if one of its files is missing or has the wrong content. An
	// operation on many tables continues with the other tables and returns the error at the end.
	ErrDamaged = icecat.ErrContent

	// ErrConflict is wrapped by the error from a commit that failed repeatedly because of concurrent commits.
	ErrConflict = commit.ErrConflict

	// ErrTxnDone is wrapped by the error from a Txn that is used after the function passed to Update has returned.
	ErrTxnDone = errors.New("the transaction has ended")
)

// ErrRequirement means that a table does not meet a change's requirements: prepare the change again for the table's
// current state.
var ErrRequirement = foreign.ErrRequirement

// MomentError is the error for a time that AtTime cannot select, because no version contains exactly the rows of that
// moment. Either a fold (a move of recent rows to files) has put earlier and later rows into one version, the version
// has expired, or the time is before the table's first version or in the future. It wraps ErrNotFound.
type MomentError struct {
	Time          time.Time // the selected time
	Before, After time.Time // the nearest times that can be selected; zero if there are none
}

func (e *MomentError) Error() string {
	var nearest []string
	for _, t := range []time.Time{e.Before, e.After} {
		if !t.IsZero() {
			nearest = append(nearest, t.Format(time.RFC3339Nano))
		}
	}
	text := "no version contains exactly the rows of " + e.Time.UTC().Format(time.RFC3339Nano)
	if len(nearest) == 0 {
		return text
	}
	if e.Before.IsZero() {
		text += ": the table was created later, or its older versions have expired"
	}
	return text + ": the nearest exact moments are " + strings.Join(nearest, " and ")
}

// Unwrap returns ErrNotFound.
func (e *MomentError) Unwrap() error { return ErrNotFound }

// ArgumentError describes an invalid argument.
type ArgumentError struct{ Err error }

func (e *ArgumentError) Error() string { return e.Err.Error() }

// Unwrap returns e.Err.
func (e *ArgumentError) Unwrap() error { return e.Err }

// OpError records a failed operation on a store, bucket or table.
type OpError struct {
	Op            string // such as "put", "scan" or "fold"
	Dir           string // the store's directory; "" in most errors for a bucket or table
	Bucket, Table string // Table is "" if the error concerns a bucket or the store
	Err           error
}

func (e *OpError) Error() string {
	missing, isMissing := e.Err.(*missingTableError)
	var b strings.Builder
	switch {
	case isMissing || e.Err == ErrNotFound && e.Table != "":
		b.WriteString("tables: table " + storekit.QuoteKey(e.Table) + " " + ErrNotFound.Error())
		if e.Bucket != "" {
			b.WriteString(" in bucket " + storekit.QuoteKey(e.Bucket))
		}
		if isMissing {
			b.WriteString(missing.hint())
		}
		return b.String()
	case e.Err == ErrNotFound && e.Bucket != "":
		return "tables: bucket " + storekit.QuoteKey(e.Bucket) + " " + ErrNotFound.Error()
	}
	b.WriteString("tables: " + e.Op)
	if e.Dir != "" {
		b.WriteString(" " + e.Dir)
	}
	if e.Table != "" {
		b.WriteString(" " + storekit.QuoteKey(e.Table))
	}
	if e.Bucket != "" {
		b.WriteString(" in bucket " + storekit.QuoteKey(e.Bucket))
	}
	return b.String() + ": " + e.Err.Error()
}

// Unwrap returns e.Err.
func (e *OpError) Unwrap() error { return e.Err }

// missingTableError is ErrNotFound for a table. hint returns text such as (did you mean "trades"?), or "".
type missingTableError struct{ hint func() string }

func (e *missingTableError) Error() string { return ErrNotFound.Error() + e.hint() }
func (e *missingTableError) Unwrap() error { return ErrNotFound }

// wrapError wraps *err in an OpError, unless *err is nil.
func wrapError(err *error, op, bucket, table string) {
	if *err != nil {
		*err = &OpError{Op: op, Bucket: bucket, Table: table, Err: *err}
	}
}

// wrapOnce sets *err to o, with the old *err as its cause, unless *err is nil or already contains an OpError.
func wrapOnce(err *error, o *OpError) {
	if *err != nil && !errors.As(*err, new(*OpError)) {
		o.Err = *err
		*err = o
	}
}

// snapshotNotFound converts the catalog's errors for a missing snapshot or table to errors that wrap ErrNotFound.
func snapshotNotFound(err error) error {
	if errors.Is(err, icecat.ErrNoSnapshot) {
		return errNoSnapshot
	}
	if errors.Is(err, icecat.ErrNotFound) {
		return ErrNotFound
	}
	return err
}

var errNoSnapshot = &notFoundError{"the bucket has no snapshot of that name"}

// notFoundError is an error with its own message that wraps ErrNotFound.
type notFoundError struct{ text string }

func (m *notFoundError) Error() string { return m.text }

func (m *notFoundError) Unwrap() error { return ErrNotFound }
