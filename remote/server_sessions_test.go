package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/storekit"
)

// TestTooManySessions creates too many sessions, in stores with and without their own sessions. The
// number of sessions per connection must be limited, and a used session must survive even while its
// client is disconnected. If all sessions are open, a new one must fail with ErrBusy.
func TestTooManySessions(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func() partd.Partd{
		"buffer": func() partd.Partd {
			return must.Get(partd.NewBuffer(partd.NewDict(), partd.NewDict(), nil))(t)
		},
		"dict": func() partd.Partd { return partd.NewDict() },
	} {
		t.Run(name, func(t *testing.T) {
			s, url := serve(t, open(), nil)
			c, idle := dial(t, url, nil), dial(t, url, nil)
			must.Do(t, c.Append(ctx, entry("k", "1")))
			must.Do(t, idle.Append(ctx, entry("k", "2")))
			original := c.calls.ops.session
			abortLink(idle)
			for range 11 {
				flooder := dial(t, url, nil)
				for range maxConnSessions {
					must.Get(flooder.NewSession(ctx))(t)
				}
				if _, err := flooder.NewSession(ctx); !errors.Is(err, ErrBusy) {
					t.Errorf("NewSession number %d of a connection = %v, want ErrBusy", maxConnSessions+1, err)
				}
				must.Do(t, flooder.Close())
			}
			must.Do(t, c.Append(ctx, entry("k", "3")))
			must.Do(t, idle.Append(ctx, entry("k", "4")))
			if c.calls.ops.session != original {
				t.Error("the server forgot a session in use")
			}
			wantValue(t, c, "k", "1234")
			op := partd.Operation{Entries: []partd.Entry{entry("flood", "v")}}
			busy := false
			for range 5 {
				flooder := dial(t, url, nil)
				for i := 0; i < maxConnSessions && !busy; i++ {
					id, err := flooder.NewSession(ctx)
					if busy = errors.Is(err, ErrBusy); !busy {
						must.Do(t, err)
						must.Get(flooder.Apply(ctx, partd.Tag{Session: id, Number: 1}, op))(t)
					}
				}
			}
			if !busy {
				t.Errorf("NewSession succeeded with more than %d open sessions, want ErrBusy", maxSessions)
			}
			must.Do(t, c.Append(ctx, entry("k", "5")))
			s.sessions.mu.Lock()
			defer s.sessions.mu.Unlock()
			if n := len(s.sessions.table); n > maxSessions {
				t.Errorf("the server knows %d sessions, want at most %d", n, maxSessions)
			}
		})
	}
}

// TestGuessedSession checks that without its token, a session can neither be changed nor reveal popped values.
func TestGuessedSession(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			store := open(t)
			_, url := serve(t, store, nil)
			victim, attacker := dial(t, url, nil), dial(t, url, nil)
			must.Do(t, victim.Append(ctx, entry("k", "1"), entry("p", "popped")))
			for n := uint64(2); n < 4; n++ {
				_, err := attacker.Apply(ctx, partd.Tag{Session: victim.calls.ops.session, Number: n}, partd.Operation{Entries: []partd.Entry{entry("x", "evil")}})
				must.Fail(t, err, partd.ErrSessionExpired, "Apply of operation %d in another client's session", n)
			}
			if err := attacker.CheckSession(ctx, victim.calls.ops.session, partd.SessionToken{1}); !errors.Is(err, partd.ErrSessionExpired) {
				t.Errorf("CheckSession with a wrong token = %v, want ErrSessionExpired", err)
			}
			must.Do(t, attacker.EndSession(ctx, victim.calls.ops.session)) // has no effect
			must.Do(t, victim.Append(ctx, entry("k", "2")))
			if err := attacker.do(ctx, popCall(victim.calls.ops.session, 1, attacker.instance, "p")); err == nil {
				t.Error("a pop in another client's session succeeded")
			}
			v, err := victim.Pop(ctx, "p")
			if must.Do(t, err); string(v[0]) != "popped" {
				t.Errorf("the victim popped %q, want popped", v[0])
			}
			read := newCall(opPopRead)
			read.session, read.seq = victim.calls.ops.session, 1
			read.u64(0)
			if err := attacker.do(ctx, read); err == nil {
				t.Error("the attacker could read the victim's popped value")
			}
			v, err = victim.Get(ctx, "k", "x")
			if must.Do(t, err); string(v[0]) != "12" || len(v[1]) > 0 {
				t.Errorf("the store has %q, want 12 and nothing", v)
			}
		})
	}
}

// TestInvalidHello checks the errors for hello requests of an old and of a later client, with a namespace, with a
// credential, and with missing fields. It also checks scans of invalid parts.
func TestInvalidHello(t *testing.T) {
	_, url := serve(t, partd.NewDict(), nil)
	tail := make([]byte, 4+8+16)
	for _, c := range []struct {
		body    []byte
		wantErr error
		text    string
	}{
		{append([]byte{1, 0, 1, 0}, make([]byte, 12)...), ErrBadRequest, "the client speaks version 1 of the protocol, but the server version 2: upgrade the client"},
		{[]byte{3, 0, 3, 0}, ErrBadRequest, "the client speaks version 3 of the protocol, but the server version 2: upgrade the server"},
		{joinBytes([]byte{2, 0, 2, 0}, tail, appendText(nil, "job"), appendText(nil, "")), errors.ErrUnsupported, `"job"`},
		{joinBytes([]byte{2, 0, 2, 0}, tail, appendText(nil, ""), appendText(nil, "secret")), errors.ErrUnsupported, "credential"},
		{joinBytes([]byte{2, 0, 2, 0}, tail), ErrBadRequest, "incomplete"},
	} {
		client := dial(t, url, nil)
		req := newCall(opHello)
		req.buf = append(req.buf, c.body...)
		err := client.do(t.Context(), req)
		if !errors.Is(err, c.wantErr) || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "secret") {
			t.Errorf("hello with the body %q = %v, want %v with %q", c.body, err, c.wantErr, c.text)
		}
	}
	for _, invalid := range [][2]uint32{{4, 4}, {0, 0}, {0, partd.MaxParts + 1}, {1 << 31, 1<<32 - 1}} {
		part := newCall(opScan)
		part.u32(invalid[0])
		part.u32(invalid[1])
		if err := dial(t, url, nil).do(t.Context(), part); !errors.Is(err, ErrBadRequest) || !strings.Contains(err.Error(), "numbered from 0") {
			t.Errorf("scan of part %d of %d = %v, want ErrBadRequest", invalid[0], invalid[1], err)
		}
	}
}

// TestSupersededConnection checks that the server refuses operations over the older connection of a session.
func TestSupersededConnection(t *testing.T) {
	_, url := serve(t, partd.NewDict(), nil)
	older, newer := dial(t, url, nil), dial(t, url, nil)
	session := must.Get(older.NewSession(ctx))(t)
	apply := func(c *Client, ctx context.Context, n uint64) error {
		_, err := c.Apply(ctx, partd.Tag{Session: session, Number: n}, partd.Operation{Entries: []partd.Entry{entry("k", fmt.Sprint(n))}})
		return err
	}
	must.Do(t, apply(older, ctx, 1))
	token := must.Get(older.SessionToken(ctx, session))(t)
	must.Do(t, newer.CheckSession(ctx, session, token))
	must.Do(t, apply(newer, ctx, 2))
	// The server closes the older connection, and the client sends the operation over a new one.
	l := currentLink(older)
	must.Do(t, apply(older, ctx, 3))
	if currentLink(older) == l {
		t.Error("the server applied an operation over the older connection")
	}
	wantValue(t, newer, "k", "123")
}

// TestResentOperationOfEndedSession checks that a resent operation of an ended session gets an unknown outcome, because
// the server may have applied it before the session ended.
func TestResentOperationOfEndedSession(t *testing.T) {
	store := &faultyStore{Partd: partd.NewDict(), unblock: make(chan struct{})}
	s, url := serve(t, store, nil)
	p := newProxy(t, url, nettest.CutNever)
	c := dial(t, p.URL(), nil)
	session := must.Get(c.NewSession(ctx))(t)
	done := make(chan error, 1)
	go func() {
		_, err := c.Apply(ctx, partd.Tag{Session: session, Number: 1}, partd.Operation{Entries: []partd.Entry{entry("k", "v")}})
		done <- err
	}()
	store.waitBlocked(t)
	s.sessions.mu.Lock()
	s.sessions.remove(s.sessions.table[session])
	s.sessions.mu.Unlock()
	p.Cut()
	if err := <-done; !errors.Is(err, partd.ErrUnknownOutcome) || !errors.Is(err, partd.ErrSessionExpired) {
		t.Errorf("a resent operation of an ended session = %v, want ErrUnknownOutcome and ErrSessionExpired", err)
	}
	close(store.unblock)
}

// TestAbortedRequests checks that a request gets no answer if it failed only because its connection
// ended. The client would mistake the answer for the request's own error, although it gets the
// result over another connection.
func TestAbortedRequests(t *testing.T) {
	s := must.Get(NewServer(partd.NewDict(), nil))(t)
	defer s.Shutdown(t.Context()) //nolint:errcheck // the store is empty
	for label, do := range map[string]func(c *conn, err error) error{
		"a request":        func(c *conn, err error) error { return c.fail(request{op: opPop, number: 1}, err) },
		"a Python request": func(c *conn, err error) error { return c.pythonError("get", err) },
	} {
		ours, theirs := net.Pipe()
		answered := make(chan int, 1)
		go func() {
			n, _ := theirs.Read(make([]byte, 100))
			answered <- n
		}()
		c := newConn(s, ours, 1)
		c.cancel() // as abort does before it closes the connection
		err := do(c, c.ctx.Err())
		must.Do(t, ours.Close())
		if n := <-answered; err == nil || n > 0 {
			t.Errorf("%s on an aborted connection was answered with %d bytes, %v, want an error and no answer", label, n, err)
		}
		c.account.close()
		s.budget.release(c.tenant)
	}
}

// TestTokenOfUser checks that a session's token is valid only for the user to whom it was issued.
func TestTokenOfUser(t *testing.T) {
	token := storekit.NewSessionToken([]byte("secret"), 1)
	if tokenFor("a", token) == tokenFor("b", token) || tokenFor("a", token) == token {
		t.Error("two users have the same token for a session")
	}
}

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
	for _, joinedErr := range []error{partd.ErrSessionExpired, partd.ErrSessionGap, partd.ErrSessionReused} {
		store := &uncertainStore{partd.NewDict(), 1, fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, joinedErr)}
		_, c := serveClient(t, store, nil)
		if err := c.Append(ctx, entry("k", "1")); !errors.Is(err, partd.ErrUnknownOutcome) {
			t.Errorf("Append with an unknown outcome and %q = %v, want ErrUnknownOutcome", joinedErr, err)
		}
		must.Do(t, c.Append(ctx, entry("k", "2")))
		wantValue(t, store, "k", "12")
	}
}

// TestResentOperationGetsFirstAnswer checks that an operation resent after the next one gets its first answer again.
func TestResentOperationGetsFirstAnswer(t *testing.T) {
	_, c := serveClient(t, &faultyStore{Partd: partd.NewDict(), errs: []error{partd.ErrUnknownOutcome}}, nil)
	session := must.Get(c.NewSession(ctx))(t)
	for _, step := range []struct {
		number uint64
		want   error
	}{{1, partd.ErrUnknownOutcome}, {2, partd.ErrSessionGap}, {1, partd.ErrUnknownOutcome}} {
		_, err := c.Apply(ctx, partd.Tag{Session: session, Number: step.number}, partd.Operation{Entries: []partd.Entry{entry("k", "v")}})
		must.Fail(t, err, step.want, "Apply of operation %d", step.number)
	}
}

// TestChainServesManyClients checks that a server whose store is another server can serve, one
// after another, more clients than one connection may have sessions. In the second round, the
// clients disconnect without ending their sessions.
func TestChainServesManyClients(t *testing.T) {
	for _, endsSession := range []bool{true, false} {
		_, backURL := serve(t, partd.NewDict(), nil)
		_, frontURL := serve(t, dial(t, backURL, nil), nil)
		for i := range maxConnSessions + 10 {
			c := must.Get(Dial(ctx, frontURL, nil))(t)
			if err := c.Append(ctx, entry("k", "v")); err != nil {
				t.Fatalf("Append by client %d: %v", i, err)
			}
			if !endsSession {
				abortLink(c)
			}
			must.Do(t, c.Close())
		}
	}
}

// TestRetryOfFailedOperation checks that an operation which failed does not count as applied.
func TestRetryOfFailedOperation(t *testing.T) {
	_, c := serveClient(t, &faultyStore{Partd: partd.NewDict(), errs: []error{syscall.ENOSPC}}, nil)
	session := must.Get(c.NewSession(ctx))(t)
	tag, op := partd.Tag{Session: session, Number: 1}, partd.Operation{Entries: []partd.Entry{entry("k", "v")}}
	if applied, err := c.Apply(ctx, tag, op); applied || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Apply to a full store = %v, %v, want ENOSPC", applied, err)
	}
	if applied, err := c.Apply(ctx, tag, op); !applied || err != nil {
		t.Fatalf("retry of the operation = %v, %v, want true", applied, err)
	}
}

// TestSessionHolderIsEvicted checks that evictSessionHolder closes the connection with the most sessions among those of a
// peer, and none of another peer.
func TestSessionHolderIsEvicted(t *testing.T) {
	s, url := serve(t, partd.NewDict(), nil)
	for sessions := range 3 {
		c := dial(t, url, nil)
		for range 1 + 2*(sessions%2) {
			must.Get(c.NewSession(ctx))(t)
		}
	}
	counts := func() (owner *tenant, n []int64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			owner, n = c.tenant, append(n, c.sessionCount.Load())
		}
		slices.Sort(n)
		return owner, n
	}
	owner, before := counts()
	s.evictSessionHolder(new(tenant))
	s.evictSessionHolder(owner)
	must.Eventually(t, time.Minute, "no connection was closed", func() bool { _, n := counts(); return len(n) < len(before) })
	if _, after := counts(); !slices.Equal(after, before[:len(before)-1]) || after[len(after)-1] == before[len(before)-1] {
		t.Errorf("connections have %d sessions, before the eviction %d: want the one with the most to be closed", after, before)
	}
}
