package canceled

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// TestWaiting checks that Send, Receive and Wait work on a ready channel, and return the cause once the context has
// ended.
func TestWaiting(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	c := make(chan int, 1)
	if err := Send(ctx, c, 7); err != nil {
		t.Error(err)
	}
	if v, err := Receive(ctx, c); v != 7 || err != nil {
		t.Errorf("Receive = %d, %v, want 7", v, err)
	}
	ended := make(chan struct{})
	close(ended)
	if err := Wait(ctx, ended); err != nil {
		t.Error(err)
	}
	cause := errors.New("the cause")
	cancel(cause)
	blocked := make(chan int)
	if err := Send(ctx, blocked, 1); !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
		t.Errorf("Send after cancel = %v, want an error that wraps %v", err, cause)
	}
	if err := Wait(ctx, blocked); !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
		t.Errorf("Wait after cancel = %v, want an error that wraps %v", err, cause)
	}
}

// TestRun checks that Run returns what the function returns, or at once if the context ends, and that the function can still end.
func TestRun(t *testing.T) {
	failed := errors.New("failed")
	if v, err := Run(t.Context(), func() (int, error) { return 7, failed }); v != 7 || err != failed {
		t.Errorf("Run = %d, %v, want 7 and the function's error", v, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	begun, proceed, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		<-begun
		cancel()
	}()
	_, err := Run(ctx, func() (int, error) {
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

// TestIs compares the errors of two operations for one context or for others.
func TestIs(t *testing.T) {
	a, b := errors.New("a"), errors.New("b")
	wrapsA := fmt.Errorf("wraps %w", a)
	for _, tc := range []struct {
		err, other endedError
		is         bool
	}{
		{endedError{a, b}, endedError{a, b}, true},
		{endedError{a, b}, endedError{b, b}, false},
		{endedError{a, b}, endedError{a, a}, false},
		{endedError{wrapsA, b}, endedError{a, b}, true},
		{endedError{b, wrapsA}, endedError{b, a}, true},
		{endedError{a, b}, endedError{wrapsA, b}, false},
		{endedError{b, a}, endedError{b, wrapsA}, false},
	} {
		if is := errors.Is(&tc.err, &tc.other); is != tc.is {
			t.Errorf("errors.Is(%v, %v) = %v", &tc.err, &tc.other, is)
		}
	}
}
