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

// mute is a connection that loses everything written after some moment, and breaks.
type mute struct {
	net.Conn
	lose *atomic.Bool
}

func (m mute) Write(b []byte) (int, error) {
	if m.lose.Load() {
		return len(b), m.Close()
	}
	return m.Conn.Write(b)
}

// TestPopThatNeverArrived checks that a pop that never arrived runs when the client
// returns to a namespace that the server has forgotten.
func TestPopThatNeverArrived(t *testing.T) {
	ctx := t.Context()
	s, url := serve(t, partd.NewDict(), &ServerOptions{Namespaces: &memSpaces{
		stores: map[string]partd.Partd{"a": openFile(t)}, used: map[string]int{},
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
		return mute{nc, lose}, err
	}
	l := c.link
	l.abort() // the next connections work normally
	<-l.ended
	for _, value := range []string{"first", "second", "third"} {
		must(t, c.Append(ctx, entry("k", value)))
		lose.Store(true)
		values, err := c.Pop(ctx, "k")
		if must(t, err); string(values[0]) != value {
			t.Errorf("popped %q, want %q", values[0], value)
		}
	}
}

// TestPopKeptTooLong checks that a pop whose result is gone does not run again, even if
// the namespace was forgotten. Pops of other sessions still run there.
func TestPopKeptTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := quotas{tenants: map[string]*tenant{}, limit: [resources]int64{popBytes: 1 << 20}}
		own, lost := l.enter("peer"), &lostPops{}
		var before, after retainedPops
		before.init(&l, lost)
		r, err := before.claim(own, 1, 1, false)
		must(t, err)
		before.finish(1, 1, r, nil, nil)
		time.Sleep(keepPop)
		synctest.Wait()
		if !before.empty() {
			t.Error("the result is still kept")
		}
		after.init(&l, lost)
		after.enter(1)
		after.enter(2)
		if _, err := after.claim(own, 1, 1, true); !errors.Is(err, partd.ErrUnknownOutcome) {
			t.Errorf("a pop that was done: %v", err)
		}
		if _, err := after.claim(own, 2, 1, true); err != nil {
			t.Errorf("a pop of another session: %v", err)
		}
		for session := range uint64(maxSessions + 1) {
			lost.add(session)
		}
		if n := len(lost.sessions); n > maxSessions || !lost.contains(maxSessions+2) {
			t.Errorf("%d of too many sessions are remembered", n)
		}
	})
}

// TestPopOfEndedSession sends a late pop over a connection that its client has abandoned,
// but that the server still reads. The pop must not run, because nobody would receive the
// values.
func TestPopOfEndedSession(t *testing.T) {
	ctx := t.Context()
	store := partd.NewDict()
	must(t, store.Append(ctx, entry("k", "v")))
	s, url := serve(t, store, nil)
	late, c := dial(t, url, nil), dial(t, url, nil)
	session, err := late.NewSession(ctx)
	must(t, err)
	token, err := late.SessionToken(ctx, session)
	must(t, err)
	must(t, c.CheckSession(ctx, session, token))
	must(t, c.EndSession(ctx, session))
	k := newCall(opPop)
	k.session, k.seq = session, 1
	k.u64(s.instance)
	k.buf = appendKeys(k.buf, []string{"k"})
	if err := late.do(ctx, k); !errors.Is(err, partd.ErrSessionExpired) {
		t.Errorf("a pop of an ended session: %v", err)
	}
	values, err := store.Get(ctx, "k")
	if must(t, err); string(values[0]) != "v" {
		t.Errorf("the store has %q, want v", values[0])
	}
}

// TestPopCountsAsUse checks that the server does not forget a session with only pops for
// others while its client is connected, because its unreceived results would be lost.
func TestPopCountsAsUse(t *testing.T) {
	s, url := serve(t, partd.NewDict(), nil)
	c := dial(t, url, nil)
	_, err := c.Pop(t.Context(), "k")
	must(t, err)
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	if x := s.sessions.table[c.ops.session]; x == nil || !x.used || x.in != nil {
		t.Errorf("a session in use counts as never used: %+v", x)
	}
}
