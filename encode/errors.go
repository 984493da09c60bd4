package encode

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

// DecodeError identifies the piece of a key's value that does not decode. A
// *partd.Error, which names the key, wraps it.
type DecodeError struct {
	Offset int64 // offset of the piece, or its frame, in the key's value, in bytes
	Err    error // what is wrong with it
}

func (e *DecodeError) Error() string { return fmt.Sprintf("piece at offset %d: %v", e.Offset, e.Err) }

// Unwrap returns what is wrong.
func (e *DecodeError) Unwrap() error { return e.Err }

// PopError is the error of a Pop that removed values and then could not decode
// or join them. The error holds the only copy.
type PopError struct {
	Keys   []string
	Values [][]byte // as they were stored, in the order of Keys
	Err    error
}

func (e *PopError) Error() string {
	return fmt.Sprintf("%d keys are removed, and their values, kept in this error, do not decode: %v", len(e.Keys), e.Err)
}

// Unwrap returns the cause.
func (e *PopError) Unwrap() error { return e.Err }

// ErrNoJoin is wrapped by the error for a key that holds several values of a
// type without a join. [Store.All] yields them one by one.
var ErrNoJoin = errors.New("the codec joins slices and strings only: read the values with All, or give the codec a Join")

// ErrDtype is wrapped by the error for an array whose element type is not the
// requested one, and for an invalid dtype.
var ErrDtype = errors.New("wrong dtype")

func keyError(op, key string, err error) error {
	return &partd.Error{Op: op, Key: key, HasKey: true, Err: err}
}
