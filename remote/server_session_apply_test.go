package remote

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// uncertainStore is a store that applies an operation, but returns ErrUnknownOutcome together
// with another error, like a client whose operation was resent in an expired session.
type uncertainStore struct {
	*partd.Dict
	remaining int // number of operations that will still return err
	err       error
}

func (u *uncertainStore) Apply(ctx context.Context, tag partd.Tag, op partd.Operation) (bool, error) {
	applied, err := u.Dict.Apply(ctx, tag, op)
	if err == nil && u.remaining > 0 {
		u.remaining--
		return false, u.err
	}
	return applied, err
}

// TestChainKeepsOutcomeUnknown checks that a change that may have been applied is not renumbered and sent again.
func TestChainKeepsOutcomeUnknown(t *testing.T) {
	ctx := context.Background()
	for _, joinedErr := range []error{partd.ErrSessionExpired, partd.ErrSessionGap, partd.ErrSessionReused} {
		store := &uncertainStore{partd.NewDict(), 1, fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, joinedErr)}
		_, url := serve(t, store, nil)
		c := dial(t, url, nil)
		if err := c.Append(ctx, entry("k", "1")); !errors.Is(err, partd.ErrUnknownOutcome) {
			t.Errorf("Append with an unknown outcome and %q = %v, want ErrUnknownOutcome", joinedErr, err)
		}
		must.Do(t, c.Append(ctx, entry("k", "2")))
		wantValue(t, store, "k", "12")
	}
}

// TestResentOperationGetsFirstAnswer checks that an operation resent after the next one gets its first answer again.
func TestResentOperationGetsFirstAnswer(t *testing.T) {
	ctx := context.Background()
	_, url := serve(t, &faultyStore{Partd: partd.NewDict(), errs: []error{partd.ErrUnknownOutcome}}, nil)
	c := dial(t, url, nil)
	session := must.Get(c.NewSession(ctx))(t)
	for _, step := range []struct {
		number uint64
		want   error
	}{{1, partd.ErrUnknownOutcome}, {2, partd.ErrSessionGap}, {1, partd.ErrUnknownOutcome}} {
		_, err := c.Apply(ctx, partd.Tag{Session: session, Number: step.number}, partd.Operation{Entries: []partd.Entry{entry("k", "v")}})
		if !errors.Is(err, step.want) {
			t.Errorf("Apply of operation %d = %v, want %v", step.number, err, step.want)
		}
	}
}

// TestChainServesManyClients checks that a server whose store is another server can serve, one
// after another, more clients than one connection may have sessions. In the second round, the
// clients disconnect without ending their sessions.
func TestChainServesManyClients(t *testing.T) {
	ctx := context.Background()
	for _, endsSession := range []bool{true, false} {
		_, backURL := serve(t, partd.NewDict(), nil)
		_, frontURL := serve(t, dial(t, backURL, nil), nil)
		for i := range maxConnSessions + 10 {
			c := must.Get(Dial(ctx, frontURL, nil))(t)
			if err := c.Append(ctx, entry("k", "v")); err != nil {
				t.Fatalf("Append by client %d: %v", i, err)
			}
			if !endsSession {
				l := currentLink(c)
				l.abort()
				<-l.done
			}
			must.Do(t, c.Close())
		}
	}
}

// TestRetryOfFailedOperation checks that an operation which failed does not count as applied.
func TestRetryOfFailedOperation(t *testing.T) {
	ctx := t.Context()
	_, url := serve(t, &faultyStore{Partd: partd.NewDict(), errs: []error{syscall.ENOSPC}}, nil)
	c := dial(t, url, nil)
	session := must.Get(c.NewSession(ctx))(t)
	tag, op := partd.Tag{Session: session, Number: 1}, partd.Operation{Entries: []partd.Entry{entry("k", "v")}}
	if applied, err := c.Apply(ctx, tag, op); applied || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Apply to a full store = %v, %v, want ENOSPC", applied, err)
	}
	if applied, err := c.Apply(ctx, tag, op); !applied || err != nil {
		t.Fatalf("retry of the operation = %v, %v, want true", applied, err)
	}
}
