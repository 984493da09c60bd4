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

// TestOwnUnknownOutcome checks that an operation's own ErrUnknownOutcome stays visible, whatever the cause of the
// cancellation is.
func TestOwnUnknownOutcome(t *testing.T) {
	err := fmt.Errorf("%w: %w", storeerror.ErrUnknownOutcome, canceled.Err(canceledWith(errDisk)))
	if !errors.Is(err, storeerror.ErrUnknownOutcome) || !errors.Is(err, errDisk) {
		t.Errorf("%v does not wrap both %v and %v", err, storeerror.ErrUnknownOutcome, errDisk)
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
