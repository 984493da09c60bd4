package tables

import (
	"errors"

	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/rules"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// SchemaError says which column of a put or a scan does not fit the table.
type SchemaError struct {
	Column string
	Err    error // says why
}

func (e *SchemaError) Error() string { return (*schema.Error)(e).Error() }

// Unwrap returns e.Err.
func (e *SchemaError) Unwrap() error { return e.Err }

// SQLError locates an error in a statement.
type SQLError struct {
	Line, Column int // counted from 1, Column in characters; 0 if the position is unknown
	Err          error
}

func (e *SQLError) Error() string { return (*sqltext.Error)(e).Error() }

// Unwrap returns e.Err.
func (e *SQLError) Unwrap() error { return e.Err }

// DuplicateError is the error for a put whose rows would repeat a time and keys, which the table's settings forbid.
type DuplicateError struct {
	Count int64    // number of duplicate rows
	Rows  []string // the first ten of them, as text; nil if only their number is known
}

func (e *DuplicateError) Error() string { return (*series.DuplicateError)(e).Error() }

// RuleError lists the rules that a put violates. Such a put changes nothing.
type RuleError struct{ Violations []Violation }

func (e *RuleError) Error() string {
	var converted rules.Error
	for _, v := range e.Violations {
		converted.Violations = append(converted.Violations, rules.Violation{Rule: v.Rule, Reason: v.Reason, Count: v.Count, Rows: badRows[rules.BadRow](v.Rows)})
	}
	return converted.Error()
}

// Violation describes the rows that violate a rule.
type Violation struct {
	Rule   string   `json:"rule"`
	Reason string   `json:"reason,omitempty"` // set if columns, not rows, violate the rule
	Count  int64    `json:"count,omitempty"`  // number of rows that violate the rule
	Rows   []BadRow `json:"rows,omitempty"`   // the first ten of these rows
}

// BadRow is a row that violates a rule.
type BadRow struct {
	Row    int64  `json:"row"`    // number of the row in the put, counted from 1
	Values string `json:"values"` // the values of the rule's columns, as column=value
}

func ruleErrorOf(e *rules.Error) *RuleError {
	converted := new(RuleError)
	for _, v := range e.Violations {
		converted.Violations = append(converted.Violations, Violation{v.Rule, v.Reason, v.Count, badRows[BadRow](v.Rows)})
	}
	return converted
}

func badRows[To, From BadRow | rules.BadRow](rows []From) (converted []To) {
	for _, r := range rows {
		converted = append(converted, To(r))
	}
	return converted
}

// As lets errors.As find an error of an internal package in e, as the type of this package that corresponds to it.
func (e *OpError) As(target any) bool {
	switch t := target.(type) {
	case **SchemaError:
		return setTarget(t, e.Err, func(found *schema.Error) *SchemaError { return (*SchemaError)(found) })
	case **ArgumentError:
		return setTarget(t, e.Err, func(found *definition.ArgumentError) *ArgumentError { return (*ArgumentError)(found) })
	case **SQLError:
		return setTarget(t, e.Err, func(found *sqltext.Error) *SQLError { return (*SQLError)(found) })
	case **DuplicateError:
		return setTarget(t, e.Err, func(found *series.DuplicateError) *DuplicateError { return (*DuplicateError)(found) })
	case **RuleError:
		return setTarget(t, e.Err, ruleErrorOf)
	}
	return false
}

// setTarget looks for an error of type From in err, and sets *target to the result of converting it.
func setTarget[From error, To any](target *To, err error, convert func(From) To) bool {
	found, ok := errors.AsType[From](err)
	if ok {
		*target = convert(found)
	}
	return ok
}
