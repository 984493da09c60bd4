package shuffle

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/engine/spill"
)

var (
	// ErrNotVerified is wrapped by the error for output that does not match the input.
	ErrNotVerified = ledger.ErrNotVerified
	// ErrClosed is wrapped by the error for using a value after Close, or a value that no
	// constructor returned. It wraps [partd.ErrClosed].
	ErrClosed = spill.ErrClosed
	// ErrArgument is wrapped by the error for an option or an argument that is invalid, such as a key
	// function that is nil. Nothing was read or written.
	ErrArgument = errors.New("invalid argument")
	// ErrOpenFeeds is wrapped by the error for reading results while feeds are open.
	ErrOpenFeeds = spill.ErrOpenWriters
	// ErrCommitted is wrapped by the error for a task that has already committed.
	ErrCommitted = errors.New("the task has already committed")
)

func errorf(format string, args ...any) error { return fmt.Errorf("shuffle: "+format, args...) }

// argumentErrorf returns an error that wraps ErrArgument, without repeating its text.
func argumentErrorf(format string, args ...any) error { return argumentError{errorf(format, args...)} }

type argumentError struct{ error }

func (e argumentError) Unwrap() error      { return e.error }
func (argumentError) Is(target error) bool { return target == ErrArgument }
