// Package sqlerror has the error of a statement of SQL, for the tables and for the
// processes that run statements, which do not know the tables.
package sqlerror

import "fmt"

// Error says where a statement is wrong.
type Error struct {
	Line, Column int   // from 1 on, the column in characters; 0 where it is about the whole
	Err          error // what is wrong there
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("line %d, column %d: %v", e.Line, e.Column, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
