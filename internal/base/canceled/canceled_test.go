package canceled_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/testutil/must"
)

var errDisk = errors.New("the disk is full")

func canceledWith(cause error) context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	return ctx
}

func TestErr(t *testing.T) {
	sibling := fmt.Errorf("append: %w", storeerror.ErrUnknownOutcome)
	expired, cancel := context.WithTimeoutCause(context.Background(), 0, errDisk)
	defer cancel()
	<-expired.Done()
	pathErr := &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}
	for _, c := range []struct {
		name              string
		ctx               context.Context
		text              string
		wantIs, wantIsNot []error
	}{
		{"without a cause", canceledWith(nil), "context canceled", []error{context.Canceled}, []error{errDisk}},
		{"with a cause", canceledWith(errDisk), "context canceled (cause: the disk is full)", []error{context.Canceled, errDisk}, nil},
		{"with a deadline", expired, "context deadline exceeded (cause: the disk is full)", []error{context.DeadlineExceeded, errDisk}, []error{context.Canceled}},
		{"a cause that wraps context.Canceled", canceledWith(fmt.Errorf("job 7: %w", context.Canceled)), "job 7: context canceled", []error{context.Canceled}, nil},
		{"the unknown outcome of another operation", canceledWith(sibling), "context canceled (cause: " + sibling.Error() + ")", []error{context.Canceled, sibling}, []error{storeerror.ErrUnknownOutcome}},
		{"a cause of a concrete error type", canceledWith(pathErr), "context canceled (cause: open x: file does not exist)", []error{context.Canceled, pathErr, fs.ErrNotExist}, nil},
		{"a Failure", canceledWith(canceled.Failure(errDisk)), "the disk is full", []error{errDisk}, []error{context.Canceled}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := canceled.Err(c.ctx)
			if err == nil || err.Error() != c.text {
				t.Fatalf("Err = %v, want %s", err, c.text)
			}
			for _, target := range append(c.wantIs, canceled.Err(c.ctx)) {
				if !errors.Is(err, target) {
					t.Errorf("errors.Is(%v, %v) = false", err, target)
				}
			}
			for _, target := range c.wantIsNot {
				if errors.Is(err, target) {
					t.Errorf("errors.Is(%v, %v) = true", err, target)
				}
			}
		})
	}
	if err := canceled.Err(t.Context()); err != nil {
		t.Errorf("Err of an active context = %v, want nil", err)
	}
	if e := (*fs.PathError)(nil); !errors.As(canceled.Err(canceledWith(pathErr)), &e) || e != pathErr {
		t.Errorf("errors.As finds %v, want %v", e, pathErr)
	}
}

func TestExplain(t *testing.T) {
	ctx := canceledWith(errDisk)
	readErr := fmt.Errorf("read: %w", context.Canceled)
	err := canceled.Explain(ctx, readErr)
	if err.Error() != "read: context canceled (cause: the disk is full)" || !errors.Is(err, errDisk) || !errors.Is(err, readErr) {
		t.Errorf("Explain = %v, want the cause in an error that wraps both", err)
	}
	for _, unchanged := range []error{nil, fs.ErrNotExist, context.DeadlineExceeded, err} {
		if got := canceled.Explain(ctx, unchanged); got != unchanged {
			t.Errorf("Explain(%v) = %v, want it unchanged", unchanged, got)
		}
	}
	if got := canceled.Explain(t.Context(), readErr); got != readErr {
		t.Errorf("Explain with an active context = %v, want %v", got, readErr)
	}
}

func TestErrDoesNotAllocate(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if n := testing.AllocsPerRun(100, func() { _ = canceled.Err(ctx) }); n > 0 {
		t.Errorf("Err makes %v allocations, want 0", n)
	}
}

// TestWaiting checks that Send, Receive and Wait work on a ready channel, and return the cause once the context has
// ended.
func TestWaiting(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	c := make(chan int, 1)
	must.Do(t, canceled.Send(ctx, c, 7))
	if v, err := canceled.Receive(ctx, c); v != 7 || err != nil {
		t.Errorf("Receive = %d, %v, want 7", v, err)
	}
	ended := make(chan struct{})
	close(ended)
	must.Do(t, canceled.Wait(ctx, ended))
	cause := errors.New("the cause")
	cancel(cause)
	blocked := make(chan int)
	if err := canceled.Send(ctx, blocked, 1); !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
		t.Errorf("Send after cancel = %v, want an error that wraps %v", err, cause)
	}
	if err := canceled.Wait(ctx, blocked); !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
		t.Errorf("Wait after cancel = %v, want an error that wraps %v", err, cause)
	}
}

// TestRun checks that Run returns what the function returns, or at once if the context ends, and that the function can still end.
func TestRun(t *testing.T) {
	failed := errors.New("failed")
	if v, err := canceled.Run(t.Context(), func() (int, error) { return 7, failed }); v != 7 || err != failed {
		t.Errorf("Run = %d, %v, want 7 and the function's error", v, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	begun, proceed, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		<-begun
		cancel()
	}()
	_, err := canceled.Run(ctx, func() (int, error) {
		defer close(ended)
		close(begun)
		<-proceed
		return 7, failed
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, failed) {
		t.Errorf("Run after cancel = %v", err)
	}
	close(proceed)
	<-ended
}

// TestIs compares the errors of two operations, for one cause or for others.
func TestIs(t *testing.T) {
	read, wrapsDisk := fmt.Errorf("read: %w", context.Canceled), fmt.Errorf("file: %w", errDisk)
	write := fmt.Errorf("write: %w", read)
	for _, tc := range []struct {
		err, cause, otherErr, otherCause error
		is                               bool
	}{
		{read, errDisk, read, errDisk, true},
		{read, errDisk, context.Canceled, errDisk, true},
		{context.Canceled, errDisk, read, errDisk, false},
		{write, wrapsDisk, read, errDisk, true},
		{write, errDisk, read, wrapsDisk, false},
	} {
		err, other := canceled.Explain(canceledWith(tc.cause), tc.err), canceled.Explain(canceledWith(tc.otherCause), tc.otherErr)
		if is := errors.Is(err, other); is != tc.is {
			t.Errorf("errors.Is(%v, %v) = %v", err, other, is)
		}
	}
}
