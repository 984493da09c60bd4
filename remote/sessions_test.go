package remote

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/go-partd/partd"
)

// TestTooManySessions forgets the oldest of the server's own sessions; its client
// goes on with another.
func TestTooManySessions(t *testing.T) {
	ctx := context.Background()
	b, err := partd.NewBuffer(partd.NewDict(), partd.NewDict(), nil)
	must(t, err)
	_, url := serve(t, b, nil)
	c, other := dial(t, url, nil), dial(t, url, nil)
	must(t, c.Append(ctx, one("k", "1")))
	for range mostSessions {
		_, err := other.NewSession(ctx)
		must(t, err)
	}
	must(t, c.Append(ctx, one("k", "2")))
	if _, err := other.Apply(ctx, partd.Tag{Session: 1, Number: 1}, partd.Operation{}); !errors.Is(err, partd.ErrSessionExpired) {
		t.Errorf("a session that the server did not issue: %v", err)
	}
	v, err := c.Get(ctx, "k")
	if must(t, err); string(v[0]) != "12" {
		t.Errorf("the store has %q", v[0])
	}
}

// TestGivenUpConnection applies nothing that comes over the older of two
// connections of a session.
func TestGivenUpConnection(t *testing.T) {
	ctx := context.Background()
	_, url := serve(t, partd.NewDict(), nil)
	older, newer := dial(t, url, nil), dial(t, url, nil)
	session, err := older.NewSession(ctx)
	must(t, err)
	apply := func(c *Client, ctx context.Context, n uint64) error {
		_, err := c.Apply(ctx, partd.Tag{Session: session, Number: n}, partd.Operation{Entries: []partd.Entry{one("k", fmt.Sprint(n))}})
		return err
	}
	must(t, apply(older, ctx, 1))
	must(t, apply(newer, ctx, 2))
	// The older connection is closed, and the client comes again over a newer one.
	must(t, apply(older, ctx, 3))
	v, err := newer.Get(ctx, "k")
	if must(t, err); string(v[0]) != "123" {
		t.Errorf("the store has %q", v[0])
	}
}
