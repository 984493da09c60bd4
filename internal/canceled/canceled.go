// Package canceled waits until a context ends, and builds the errors of canceled operations,
// which wrap the context's error and its cause.
package canceled

import (
	"context"
	"errors"
	"strings"

	"github.com/go-partd/partd/internal/storeerror"
)

// Err returns nil while ctx is active. Then it returns an error that wraps ctx.Err() and the
// cause, or only the cause if Failure made it.
func Err(ctx context.Context) error {
	if ctx.Err() == nil { // kept small so that it is inlined
		return nil
	}
	return Explain(ctx, ctx.Err())
}

// Explain adds the cause of ctx's end to an error that wraps only ctx.Err(). It returns other
// errors unchanged.
func Explain(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || !errors.Is(err, ctx.Err()) || errors.As(err, new(*endedError)) {
		return err
	}
	cause := context.Cause(ctx)
	if own, ok := cause.(*failureCause); ok {
		return own.error
	}
	if cause == ctx.Err() {
		return err
	}
	return &endedError{err, cause}
}

// Failure returns a cause for cancelling one's own context after err. The caller's context
// has not ended then, so Err returns only err.
func Failure(err error) error { return &failureCause{err} }

type failureCause struct{ error }

func (f *failureCause) Unwrap() error { return f.error }

// endedError is the error of an operation that stopped because its context ended.
type endedError struct {
	err   error // wraps the context's error, and decides whether the outcome is unknown
	cause error
}

func (e *endedError) Error() string {
	text, cause := e.err.Error(), e.cause.Error()
	if strings.Contains(cause, text) {
		return cause
	}
	return text + " (cause: " + cause + ")"
}

func (e *endedError) Unwrap() error { return e.err }

// Is also looks at the cause, except for ErrUnknownOutcome: another operation's unknown
// outcome may be why the context was canceled, but does not concern this operation.
func (e *endedError) Is(target error) bool {
	if other, ok := target.(*endedError); ok { // from the same context
		return errors.Is(e.err, other.err) && errors.Is(e.cause, other.cause)
	}
	return target != storeerror.ErrUnknownOutcome && errors.Is(e.cause, target)
}

// As also looks at the cause.
func (e *endedError) As(target any) bool { return errors.As(e.cause, target) }

// Receive waits for a value from a channel, or for its close, until ctx ends.
func Receive[T any](ctx context.Context, from <-chan T) (v T, err error) {
	select {
	case v = <-from:
		return v, nil
	case <-ctx.Done():
		return v, Err(ctx)
	}
}

// Wait is Receive for channels whose values do not matter.
func Wait[T any](ctx context.Context, from <-chan T) error {
	_, err := Receive(ctx, from)
	return err
}

// Send waits until a channel accepts a value, or until ctx ends.
func Send[T any](ctx context.Context, to chan<- T, v T) error {
	select {
	case to <- v:
		return nil
	case <-ctx.Done():
		return Err(ctx)
	}
}
