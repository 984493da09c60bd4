package remote

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/go-partd/partd"
)

// uncertain is a store that applies an operation, but returns ErrUnknownOutcome together
// with another error, like a client whose operation was resent in an expired session.
type uncertain struct {
	*partd.Dict
	left int // how often it does so
	err  error
}

func (u *uncertain) Apply(ctx context.Context, tag partd.Tag, op partd.Operation) (bool, error) {
	applied, err := u.Dict.Apply(ctx, tag, op)
	if err == nil && u.left > 0 {
		u.left--
		return false, u.err
	}
	return applied, err
}

// TestChainKeepsOutcomeUnknown checks that a change that may have been applied gets no
// new number, whatever else the error wraps.
func TestChainKeepsOutcomeUnknown(t *testing.T) {
	ctx := context.Background()
	for _, also := range []error{partd.ErrSessionExpired, partd.ErrSessionGap, partd.ErrSessionReused} {
		store := &uncertain{partd.NewDict(), 1, fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, also)}
		_, url := serve(t, store, nil)
		c := dial(t, url, nil)
		if err := c.Append(ctx, entry("k", "1")); !errors.Is(err, partd.ErrUnknownOutcome) {
			t.Errorf("an append with an unknown outcome, %v: %v", also, err)
		}
		must(t, c.Append(ctx, entry("k", "2")))
		if v, err := store.Get(ctx, "k"); err != nil || string(v[0]) != "12" {
			t.Errorf("%v: the store has %q, %v", also, v, err)
		}
	}
}

// unsure applies an operation, and returns ErrUnknownOutcome once.
type unsure struct {
	partd.Partd
	left int
}

func (u *unsure) Append(ctx context.Context, entries ...partd.Entry) error {
	err := u.Partd.Append(ctx, entries...)
	if u.left > 0 {
		u.left--
		return errors.Join(err, partd.ErrUnknownOutcome)
	}
	return err
}

// TestUnknownStaysUnknown checks that a resent operation gets its first answer, even if
// the next operation of the session came in between.
func TestUnknownStaysUnknown(t *testing.T) {
	ctx := context.Background()
	_, url := serve(t, &unsure{partd.NewDict(), 1}, nil)
	c := dial(t, url, nil)
	session, err := c.NewSession(ctx)
	must(t, err)
	for _, step := range []struct {
		number uint64
		want   error
	}{{1, partd.ErrUnknownOutcome}, {2, partd.ErrSessionGap}, {1, partd.ErrUnknownOutcome}} {
		_, err := c.Apply(ctx, partd.Tag{Session: session, Number: step.number}, partd.Operation{Entries: []partd.Entry{entry("k", "v")}})
		if !errors.Is(err, step.want) {
			t.Errorf("operation %d: %v, want %v", step.number, err, step.want)
		}
	}
}

// TestChainServesManyClients has a server whose store is another server. More clients
// than one connection may have sessions come one after another, and some disconnect
// without ending their session.
func TestChainServesManyClients(t *testing.T) {
	ctx := context.Background()
	for _, polite := range []bool{true, false} {
		_, back := serve(t, partd.NewDict(), nil)
		_, front := serve(t, dial(t, back, nil), nil)
		for i := range maxConnSessions + 10 {
			c, err := Dial(ctx, front, nil)
			must(t, err)
			if err := c.Append(ctx, entry("k", "v")); err != nil {
				t.Fatalf("client %d: %v", i, err)
			}
			if !polite {
				l := c.link
				l.abort()
				<-l.ended
			}
			must(t, c.Close())
		}
	}
}
