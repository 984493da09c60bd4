package encode

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd"
)

// DecodeError says which piece of a key's value does not decode. It comes within
// a *partd.Error, which names the key.
type DecodeError struct {
	Offset int64 // where in the key's value the piece, or its frame, begins, in bytes
	Err    error // what is wrong with it
}

func (e *DecodeError) Error() string { return fmt.Sprintf("piece at offset %d: %v", e.Offset, e.Err) }

// Unwrap returns what is wrong.
func (e *DecodeError) Unwrap() error { return e.Err }

// PopError is the error of a Pop that removed values and then could not decode
// or join them. They are nowhere else any more.
type PopError struct {
	Keys   []string
	Values [][]byte // as they were stored, in the order of Keys
	Err    error
}

func (e *PopError) Error() string {
	return fmt.Sprintf("%d keys are removed, and their values, kept in this error, do not decode: %v", len(e.Keys), e.Err)
}

// Unwrap returns why they do not decode.
func (e *PopError) Unwrap() error { return e.Err }

// ErrNoJoin is wrapped by the error for several values under one key of a type
// that has no join. [Store.All] yields them one by one.
var ErrNoJoin = errors.New("the codec joins slices and strings only: read the values with All, or give the codec a Join")

// ErrDtype is wrapped by the error for arrays of another element type than the
// one asked for, and for a dtype that is none.
var ErrDtype = errors.New("wrong dtype")

func keyError(op, key string, err error) error {
	return &partd.Error{Op: op, Key: key, HasKey: true, Err: err}
}
