package tables

import (
	"errors"

	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/rules"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// SchemaError is an error about one column, such as a column of a put or a scan that does not fit the table.
type SchemaError struct {
	Column string // "" for a put without columns
	Err    error  // the problem
}

func (e *SchemaError) Error() string { return (*schema.Error)(e).Error() }

// Unwrap returns e.Err.
func (e *SchemaError) Unwrap() error { return e.Err }

// SQLError is an error in an SQL statement.
type SQLError struct {
	Line, Column int // position of the error, counted from 1, Column in characters; 0 if it is unknown
	Err          error
}

func (e *SQLError) Error() string { return (*sqltext.Error)(e).Error() }

// Unwrap returns e.Err.
func (e *SQLError) Unwrap() error { return e.Err }

// DuplicateError is the error for a put that would create duplicates (equal times and keys) that the settings forbid.
type DuplicateError struct {
	Count int64    // number of duplicates
	Rows  []string // the first ten duplicates, as text; nil if only Count is known
}

func (e *DuplicateError) Error() string { return (*series.DuplicateError)(e).Error() }

// RuleError lists the rules that a put violates. The put has changed nothing.
type RuleError struct{ Violations []Violation }

func (e *RuleError) Error() string {
	var converted rules.Error
	for _, v := range e.Violations {
		converted.Violations = append(converted.Violations, rules.Violation{Rule: v.Rule, Reason: v.Reason, Count: v.Count, Rows: badRows[rules.BadRow](v.Rows)})
	}
	return converted.Error()
}

// Violation describes how a put violates a rule.
type Violation struct {
	Rule   string   `json:"rule"`
	Reason string   `json:"reason,omitempty"` // what is wrong with the put's columns; "" if rows violate the rule
	Count  int64    `json:"count,omitempty"`  // number of rows that violate the rule
	Rows   []BadRow `json:"rows,omitempty"`   // the first ten rows that violate the rule
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

// As lets errors.As convert errors of internal packages, which e.Err contains, to the public types of this package.
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

// setTarget reports whether err contains an error of type From. If it does, setTarget stores the converted error.
func setTarget[From error, To any](target *To, err error, convert func(From) To) bool {
	found, ok := errors.AsType[From](err)
	if ok {
		*target = convert(found)
	}
	return ok
}
