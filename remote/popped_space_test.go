package remote

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
)

// lossyConn is a connection that breaks at the next write once lose is set, and loses the written data.
type lossyConn struct {
	net.Conn
	lose *atomic.Bool
}

func (m lossyConn) Write(b []byte) (int, error) {
	if m.lose.Load() {
		return len(b), m.Close()
	}
	return m.Conn.Write(b)
}

// TestPopThatNeverArrived checks that a lost pop runs after the server has forgotten the namespace.
func TestPopThatNeverArrived(t *testing.T) {
	ctx := t.Context()
	s, url := serve(t, partd.NewDict(), &ServerOptions{Namespaces: &memSpaces{
		stores: map[string]partd.Partd{"a": openFile(t)}, refs: map[string]int{},
	}})
	c := dial(t, url+"/a", nil)
	lose, dialNet := new(atomic.Bool), c.dial
	c.dial = func(ctx context.Context) (net.Conn, error) {
		if lose.CompareAndSwap(true, false) { // until the server has forgotten the namespace
			for n := 1; n > 0 && ctx.Err() == nil; time.Sleep(time.Millisecond) {
				s.spaces.mu.Lock()
				n = len(s.spaces.named)
				s.spaces.mu.Unlock()
			}
		}
		nc, err := dialNet(ctx)
		return lossyConn{nc, lose}, err
	}
	l := c.link
	l.abort() // the next connections work normally
	<-l.done
	for _, value := range []string{"first", "second", "third"} {
		must(t, c.Append(ctx, entry("k", value)))
		lose.Store(true)
		values, err := c.Pop(ctx, "k")
		if must(t, err); string(values[0]) != value {
			t.Errorf("Pop = %q, want %q", values[0], value)
		}
	}
}

// TestExpiredPopResult checks that a pop whose retained result has expired does not run again, even
// if the server has forgotten the namespace, and that pops of other sessions still run there.
func TestExpiredPopResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quotas{tenants: map[string]*tenant{}, limit: [resources]int64{popBytes: 1 << 20}}
		peer, lost := q.enter("peer"), &lostPops{}
		var oldPops, newPops retainedPops
		oldPops.init(&q, lost)
		r, err := oldPops.claim(peer, 1, 1, false)
		must(t, err)
		oldPops.finish(1, 1, r, nil, nil)
		time.Sleep(keepPop)
		synctest.Wait()
		if !oldPops.empty() {
			t.Error("the result is still retained after keepPop")
		}
		newPops.init(&q, lost)
		newPops.enter(1)
		newPops.enter(2)
		if _, err := newPops.claim(peer, 1, 1, true); !errors.Is(err, partd.ErrUnknownOutcome) {
			t.Errorf("claim of a resent pop whose result has expired = %v, want ErrUnknownOutcome", err)
		}
		if _, err := newPops.claim(peer, 2, 1, true); err != nil {
			t.Errorf("claim of a resent pop in another session = %v, want nil", err)
		}
		for session := range uint64(maxSessions + 1) {
			lost.add(session)
		}
		if n := len(lost.sessions); n > maxSessions || !lost.contains(maxSessions+2) {
			t.Errorf("with too many sessions, lostPops remembers %d, want at most %d, and must contain every session", n, maxSessions)
		}
	})
}

// TestPopOfEndedSession checks that a pop does not run if it arrives late, over an older
// connection, after its session has ended. Nobody would receive the values.
func TestPopOfEndedSession(t *testing.T) {
	ctx := t.Context()
	store := partd.NewDict()
	must(t, store.Append(ctx, entry("k", "v")))
	s, url := serve(t, store, nil)
	older, c := dial(t, url, nil), dial(t, url, nil)
	session, err := older.NewSession(ctx)
	must(t, err)
	token, err := older.SessionToken(ctx, session)
	must(t, err)
	must(t, c.CheckSession(ctx, session, token))
	must(t, c.EndSession(ctx, session))
	s.space.pops.mu.Lock()
	if s.space.pops.sessions[session] != nil {
		t.Error("the server keeps the pops of a session that has ended")
	}
	s.space.pops.mu.Unlock()
	k := newCall(opPop)
	k.session, k.seq = session, 1
	k.u64(s.instance)
	k.buf = appendKeys(k.buf, []string{"k"})
	if err := older.do(ctx, k); !errors.Is(err, partd.ErrSessionExpired) {
		t.Errorf("a pop in an ended session = %v, want ErrSessionExpired", err)
	}
	values, err := store.Get(ctx, "k")
	if must(t, err); string(values[0]) != "v" {
		t.Errorf("the store has %q, want v", values[0])
	}
}

// TestPopCountsAsUse checks that a session with only pops counts as used. Otherwise the server
// could forget it in favor of another session, and lose its unconfirmed results.
func TestPopCountsAsUse(t *testing.T) {
	s, url := serve(t, partd.NewDict(), nil)
	c := dial(t, url, nil)
	_, err := c.Pop(t.Context(), "k")
	must(t, err)
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	if x := s.sessions.table[c.ops.session]; x == nil || !x.used || x.list != nil {
		t.Errorf("after a pop, the session counts as unused: %+v", x)
	}
}

// blockingPopStore is a store whose first pop blocks until unblock is closed.
type blockingPopStore struct {
	*partd.Dict
	blocked chan struct{} // closed when the first pop blocks
	unblock chan struct{}
	called  atomic.Bool
}

func (s *blockingPopStore) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if s.called.CompareAndSwap(false, true) {
		close(s.blocked)
		<-s.unblock
	}
	return s.Dict.Pop(ctx, keys...)
}

// TestResentPopOfForgottenSession checks that a resent pop does not run again if the server has
// forgotten the pops of its session in the meantime.
func TestResentPopOfForgottenSession(t *testing.T) {
	store := &blockingPopStore{Dict: partd.NewDict(), blocked: make(chan struct{}), unblock: make(chan struct{})}
	defer close(store.unblock)
	s, url := serve(t, store, nil)
	p := newProxy(t, url, noLimit)
	c := dial(t, p.url(), nil)
	done := make(chan error, 1)
	go func() {
		_, err := c.Pop(t.Context(), "k")
		done <- err
	}()
	<-store.blocked
	c.mu.Lock()
	session := c.ops.session
	c.mu.Unlock()
	s.space.pops.end(session)
	p.cut()
	if err := <-done; !errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("a resent pop whose result was forgotten = %v, want ErrUnknownOutcome", err)
	}
}
