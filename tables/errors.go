package tables

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/storekit"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/publicerror"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/rules"
	"github.com/go-partd/partd/tables/internal/state/series"
)

var (
	// ErrNotFound is wrapped by the error for a missing table, version, bucket or snapshot.
	ErrNotFound = commit.ErrNotFound

	// ErrExists is wrapped by the error from an operation whose target already exists, such as a put in mode PutError.
	ErrExists = icecat.ErrExists

	// ErrNotEmpty is wrapped by the error from deleting a bucket that still has tables or snapshots.
	ErrNotEmpty = errors.New("not empty")

	// ErrInUse is wrapped by the error from Open if another Store has the tail open. The message names the process of
	// that Store, if known.
	ErrInUse = partd.ErrInUse

	// ErrReadOnly is wrapped by the error from an operation that would change a read-only Store.
	ErrReadOnly = commit.ErrReadOnly

	// ErrPinned is wrapped by the error from an operation that requires a table's current state, such as a change, if
	// At has pinned the Table to an old state.
	ErrPinned = errors.New("the Table is pinned to an old state by At: use the Table from Bucket.Table")

	// ErrClosed is wrapped by the error from every operation on a closed Store.
	ErrClosed = partd.ErrClosed

	// ErrDamaged is wrapped by the error for a table if one of its files is missing or has the wrong content. An
	// operation on many tables continues with the other tables, and returns the error at the end.
	ErrDamaged = icecat.ErrContent

	// ErrConflict is wrapped by the error from a commit that failed repeatedly because of concurrent commits.
	ErrConflict = commit.ErrConflict

	// ErrTxnDone is wrapped by the error from a Txn that is used after the function passed to Update has returned.
	ErrTxnDone = errors.New("the transaction has ended")
)

// MomentError is the error for a time that AtTime cannot select exactly, because no version contains exactly the rows
// of that moment: a fold has moved earlier and later rows into one version, the version has expired, or the time is
// before the table's first version or in the future. It wraps ErrNotFound.
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

// SchemaError says which column of a put or a scan does not fit the table.
type SchemaError struct {
	Column string
	Err    error // says why
}

func (e *SchemaError) Error() string { return (*schema.Error)(e).Error() }

// Unwrap returns e.Err.
func (e *SchemaError) Unwrap() error { return e.Err }

// ArgumentError describes an invalid argument.
type ArgumentError struct{ Err error }

func (e *ArgumentError) Error() string { return e.Err.Error() }

// Unwrap returns e.Err.
func (e *ArgumentError) Unwrap() error { return e.Err }

// SQLError locates an error in a statement.
type SQLError struct {
	Line, Column int // counted from 1, Column in characters; 0 if the position is unknown
	Err          error
}

func (e *SQLError) Error() string { return (*sqltext.Error)(e).Error() }

// Unwrap returns e.Err.
func (e *SQLError) Unwrap() error { return e.Err }

// init lets errors.As find the errors of internal packages as the types of this package.
func init() {
	publicerror.As = func(err error, target any) bool {
		switch e := err.(type) {
		case *schema.Error:
			return setTarget(target, (*SchemaError)(e))
		case *definition.ArgumentError:
			return setTarget(target, (*ArgumentError)(e))
		case *sqltext.Error:
			return setTarget(target, (*SQLError)(e))
		case *series.DuplicateError:
			return setTarget(target, (*DuplicateError)(e))
		case *rules.Error:
			return setTarget(target, ruleErrorOf(e))
		}
		return false
	}
}

// setTarget sets *target to e, and reports whether target is a *T.
func setTarget[T error](target any, e T) bool {
	t, ok := target.(*T)
	if ok {
		*t = e
	}
	return ok
}

// OpError records a failed operation on a store, bucket or table.
type OpError struct {
	Op            string // such as "put", "scan" or "fold"
	Dir           string // the directory, if the error concerns the whole store
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

// missingTable returns the error for a table that does not exist.
func missingTable(ctx context.Context, cat *icecat.Catalog, n tableName) error {
	const maxNames = 1000
	// Many callers expect the error, and never read its text.
	return &missingTableError{sync.OnceValue(func() string {
		names, _ := cat.Names(context.WithoutCancel(ctx), n.Namespace, "", maxNames) // an error only means that there is no hint
		return textfmt.Hint(n.Name, names)
	})}
}

// notFound returns the result of missingTable if err is the catalog's error for a missing table, and otherwise err.
func notFound(ctx context.Context, cat *icecat.Catalog, n tableName, err error) error {
	if errors.Is(err, icecat.ErrNotFound) {
		return missingTable(ctx, cat, n)
	}
	return err
}

// wrapError wraps *err in an OpError, unless *err is nil.
func wrapError(err *error, op, bucket, table string) {
	if *err != nil {
		*err = &OpError{Op: op, Bucket: bucket, Table: table, Err: *err}
	}
}

// wrapOnce sets *err to o, with *err as its cause, unless *err is nil or already has an OpError.
func wrapOnce(err *error, o *OpError) {
	if *err != nil && !errors.As(*err, new(*OpError)) {
		o.Err = *err
		*err = o
	}
}
