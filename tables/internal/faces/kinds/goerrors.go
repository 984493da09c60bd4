package kinds

import (
	"errors"
	"io/fs"
	"net/http"
	"syscall"

	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
)

// goError is the Go error of a kind.
type goError struct {
	match    func(err error, d *Details) bool           // reports whether err wraps the Go error; if so, copies its fields to d
	newError func(d *Details, text error) (goErr error) // returns the Go error with d's fields, for a client
}

// sentinel returns the goError of errors that wrap target.
func sentinel(target error) goError {
	return matching(func(err error) bool { return errors.Is(err, target) }, target)
}

// matching returns the goError of errors for which matches returns true. Clients receive target.
func matching(matches func(error) bool, target error) goError {
	return goError{func(err error, _ *Details) bool { return matches(err) }, func(*Details, error) error { return target }}
}

// typed returns the goError of errors that wrap a T.
func typed[T error](copyFields func(T, *Details), newError func(*Details, error) error) goError {
	return goError{func(err error, d *Details) bool {
		e, ok := errors.AsType[T](err)
		if ok {
			copyFields(e, d)
		}
		return ok
	}, newError}
}

// IsDiskFull reports whether err means that a disk is full.
func IsDiskFull(err error) bool {
	const sqliteFull = 13
	var sqlite interface{ Code() int }
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.As(err, &sqlite) && sqlite.Code()&0xff == sqliteFull
}

// isOverQuota reports whether err means that the temporary files of all calls need too much space at the moment.
func isOverQuota(err error, _ *Details) bool { return errors.Is(err, spill.ErrQuota) }

// isPermission reports whether the caller lacks a permission. In a PathError, it is the server that lacks one.
func isPermission(err error) bool {
	return errors.Is(err, fs.ErrPermission) && !errors.As(err, new(*fs.PathError))
}

// matchSQL matches errors in statements. It ignores a PathError: statements name no files, so the server is at fault.
func matchSQL(err error, d *Details) bool {
	e, ok := errors.AsType[*tables.SQLError](err)
	if !ok || errors.As(err, new(*fs.PathError)) {
		return false
	}
	d.Line, d.Column = e.Line, e.Column
	return true
}

var (
	moment = typed(
		func(e *tables.MomentError, d *Details) {
			d.Before, d.After = e.Before, e.After
			if t := e.Time.UTC(); t.Year() >= 0 && t.Year() <= 9999 { // JSON cannot represent other years
				d.Time = t
			}
		},
		func(d *Details, _ error) error {
			return &tables.MomentError{Time: d.Time, Before: d.Before, After: d.After}
		})
	bodyTooLarge = typed(
		func(e *http.MaxBytesError, d *Details) { d.Limit = e.Limit },
		func(d *Details, _ error) error { return &http.MaxBytesError{Limit: d.Limit} })
	schema = typed(
		func(e *tables.SchemaError, d *Details) { d.Name = e.Column },
		func(d *Details, text error) error { return &tables.SchemaError{Column: d.Name, Err: text} })
	duplicates = typed(
		func(e *tables.DuplicateError, d *Details) { d.Count, d.Rows = e.Count, e.Rows },
		func(d *Details, _ error) error { return &tables.DuplicateError{Count: d.Count, Rows: d.Rows} })
	argument = typed(
		func(*tables.ArgumentError, *Details) {},
		func(_ *Details, text error) error { return &tables.ArgumentError{Err: text} })
	condition = typed(
		func(e *filter.SyntaxError, d *Details) { d.Line, d.Column = 1, e.Offset+1 },
		func(d *Details, text error) error {
			return &filter.SyntaxError{Offset: d.Column - 1, Msg: text.Error()}
		})
	statement = goError{matchSQL, func(d *Details, text error) error {
		return &tables.SQLError{Line: d.Line, Column: d.Column, Err: text}
	}}
	violations = typed(
		func(e *tables.RuleError, d *Details) { d.Violations = e.Violations },
		func(d *Details, _ error) error { return &tables.RuleError{Violations: d.Violations} })
)
