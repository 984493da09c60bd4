// Package canceled waits no longer than a context goes on, and makes the errors of operations
// whose context has ended: they wrap both the context's error and its cause.
package canceled

import (
	"context"
	"errors"
	"strings"

	"github.com/go-partd/partd/internal/storeerror"
)

// Err returns nil while ctx goes on. Then it returns an error that wraps ctx.Err() and
// the cause; or the cause alone, where Because made it.
func Err(ctx context.Context) error {
	if ctx.Err() == nil { // inlined
		return nil
	}
	return Explain(ctx, ctx.Err())
}

// Explain adds the cause of ctx's end to an error that wraps ctx.Err() alone. It returns
// other errors as they are.
func Explain(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || !errors.Is(err, ctx.Err()) || errors.As(err, new(*ended)) {
		return err
	}
	cause := context.Cause(ctx)
	if own, ok := cause.(*failure); ok {
		return own.error
	}
	if cause == ctx.Err() {
		return err
	}
	return &ended{err, cause}
}

// Because returns the cause for cancelling a context of our own after a failure: not the
// caller's context has ended then, and Err returns the failure alone.
func Because(err error) error { return &failure{err} }

type failure struct{ error }

func (f *failure) Unwrap() error { return f.error }

// ended is the error of an operation that gave up because its context had ended.
type ended struct {
	err   error // wraps the context's error; what it says of the outcome counts
	cause error
}

func (e *ended) Error() string {
	text, cause := e.err.Error(), e.cause.Error()
	if strings.Contains(cause, text) {
		return cause
	}
	return text + " (cause: " + cause + ")"
}

func (e *ended) Unwrap() error { return e.err }

// Is finds the cause, too, but not that another operation's outcome is unknown, where that
// is why the context was cancelled: it says nothing of this operation.
func (e *ended) Is(target error) bool {
	if other, ok := target.(*ended); ok { // of the same end
		return errors.Is(e.err, other.err) && errors.Is(e.cause, other.cause)
	}
	return target != storeerror.ErrUnknownOutcome && errors.Is(e.cause, target)
}

// As finds the cause, too.
func (e *ended) As(target any) bool { return errors.As(e.cause, target) }

// Receive waits for a value of a channel, or for the channel's end, until ctx ends.
func Receive[T any](ctx context.Context, from <-chan T) (v T, err error) {
	select {
	case v = <-from:
		return v, nil
	case <-ctx.Done():
		return v, Err(ctx)
	}
}

// Wait is Receive for channels whose values say nothing.
func Wait[T any](ctx context.Context, from <-chan T) error {
	_, err := Receive(ctx, from)
	return err
}

// Send waits until a channel takes a value, or until ctx ends.
func Send[T any](ctx context.Context, to chan<- T, v T) error {
	select {
	case to <- v:
		return nil
	case <-ctx.Done():
		return Err(ctx)
	}
}
