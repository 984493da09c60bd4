// Package sqltext quotes names and texts for SQL. It also defines the error of an SQL statement. It is separate from
// package tables because the worker processes that run statements use it but do not import that package.
package sqltext

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Name returns a name in double quotes.
func Name(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// Qualified returns the quoted name, preceded by the quoted outer name unless that is "".
func Qualified(outer, name string) string {
	if outer == "" {
		return Name(name)
	}
	return Name(outer) + "." + Name(name)
}

// Text returns a text in single quotes.
func Text(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// Error is the error of an SQL statement, with its position.
type Error struct {
	Line, Column int   // counted from 1, the column in characters; 0 if the error has no position
	Err          error // the cause
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("line %d, column %d: %v", e.Line, e.Column, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// ErrorAt adds to err the position in a statement. offset is in bytes.
func ErrorAt(sql string, offset int, err error) error {
	if offset < 0 || offset > len(sql) || sql == "" {
		return &Error{Err: err}
	}
	prefix := sql[:offset]
	line := prefix[strings.LastIndexByte(prefix, '\n')+1:]
	return &Error{Line: 1 + strings.Count(prefix, "\n"), Column: 1 + utf8.RuneCountInString(line), Err: err}
}

// RefusedAt is ErrorAt with a formatted message.
func RefusedAt(sql string, offset int, format string, args ...any) error {
	return ErrorAt(sql, offset, fmt.Errorf(format, args...))
}

// CausedError is an error from DuckDB or another process, with the errors that it wraps in this process.
type CausedError struct {
	Text   string
	Causes []error
}

func (e *CausedError) Error() string { return e.Text }

// Unwrap returns the causes.
func (e *CausedError) Unwrap() []error { return e.Causes }

// ErrMemory means that a statement ran out of memory or of space for temporary files.
var ErrMemory = errors.New("out of memory")

// ErrNotPerKey is the error for a statement whose result may differ if it runs once for each part of its rows.
var ErrNotPerKey = errors.New("the statement is not proved to be per key")
