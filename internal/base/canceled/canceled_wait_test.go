package canceled

import (
	"context"
	"errors"
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
