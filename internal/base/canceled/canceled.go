// Package canceled builds the errors of canceled operations, which wrap the context's error and its
// cause. It also has channel operations that return such errors.
package canceled

import (
	"context"
	"errors"
	"strings"

	"github.com/go-partd/partd/internal/base/storeerror"
)

// Err returns nil while ctx is active. After that, it returns an error that wraps ctx.Err() and the
// context's cause. If the cause is from Failure, Err returns only that error.
func Err(ctx context.Context) error {
	if ctx.Err() == nil { // the rest is in Explain, so that the compiler inlines Err
		return nil
	}
	return Explain(ctx, ctx.Err())
}

// Explain adds the context's cause to an error that wraps ctx.Err(), unless the error already has
// the cause. It returns other errors unchanged.
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

// Failure returns a cause for canceling a derived context after err. Err then returns only err,
// because the caller's own context has not ended.
func Failure(err error) error { return &failureCause{err} }

type failureCause struct{ error }

func (f *failureCause) Unwrap() error { return f.error }

// endedError is the error for an operation that stopped because its context ended.
type endedError struct {
	err   error // the operation's error, which wraps the context's error
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

// Is also checks the cause, unless target is ErrUnknownOutcome. A cause that wraps
// ErrUnknownOutcome is about another operation and says nothing about the canceled one.
func (e *endedError) Is(target error) bool {
	if other, ok := target.(*endedError); ok { // another error for the same context
		return errors.Is(e.err, other.err) && errors.Is(e.cause, other.cause)
	}
	return target != storeerror.ErrUnknownOutcome && errors.Is(e.cause, target)
}

// As also checks the cause.
func (e *endedError) As(target any) bool { return errors.As(e.cause, target) }

// Run calls f, which ignores ctx. If ctx ends first, Run returns, but f keeps running.
func Run[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	r, err := Receive(ctx, done)
	if err != nil {
		return r.v, err
	}
	return r.v, r.err
}

// Receive waits until a channel yields a value or is closed, or until ctx ends.
func Receive[T any](ctx context.Context, from <-chan T) (v T, err error) {
	select {
	case v = <-from:
		return v, nil
	case <-ctx.Done():
		return v, Err(ctx)
	}
}

// Wait is like Receive, but ignores the value.
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
