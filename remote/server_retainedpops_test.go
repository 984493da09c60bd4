package remote

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/storekit"
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

// popCall returns a pop in a session. instance is the server's process that the client takes for the session's.
func popCall(session, seq, instance uint64, keys ...string) *call {
	req := newCall(opPop)
	req.session, req.seq = session, seq
	req.u64(instance)
	req.buf = appendKeys(req.buf, keys)
	return req
}

// TestPopThatNeverArrived checks that a lost pop runs when it is resent, even if the server has forgotten the
// namespace.
func TestPopThatNeverArrived(t *testing.T) {
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
	abortLink(c) // the next connections work normally
	for _, value := range []string{"first", "second", "third"} {
		must.Do(t, c.Append(ctx, entry("k", value)))
		lose.Store(true)
		if values := must.Get(c.Pop(ctx, "k"))(t); string(values[0]) != value {
			t.Errorf("Pop = %q, want %q", values[0], value)
		}
	}
}

// TestExpiredPopResult checks that a pop whose retained result has expired does not run again, even
// if the server has forgotten the namespace, and that pops of other sessions still run.
func TestExpiredPopResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quotas{tenants: map[string]*tenant{}, limit: [numResources]int64{popBytes: 1 << 20}}
		peer, lost := q.acquire("peer"), &lostPops{}
		var oldPops, newPops retainedPops
		oldPops.init(&q, lost)
		r := must.Get(oldPops.claim(peer, 1, 1, false))(t)
		oldPops.finish(1, 1, r, nil, nil)
		time.Sleep(keepPop)
		synctest.Wait()
		if !oldPops.empty() {
			t.Error("the result is still retained after keepPop")
		}
		newPops.init(&q, lost)
		newPops.register(1)
		newPops.register(2)
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
	store := partd.NewDict()
	must.Do(t, store.Append(ctx, entry("k", "v")))
	s, url := serve(t, store, nil)
	older, c := dial(t, url, nil), dial(t, url, nil)
	session := must.Get(older.NewSession(ctx))(t)
	token := must.Get(older.SessionToken(ctx, session))(t)
	must.Do(t, c.CheckSession(ctx, session, token))
	must.Do(t, c.EndSession(ctx, session))
	s.space.pops.mu.Lock()
	if s.space.pops.sessions[session] != nil {
		t.Error("the server keeps the pops of a session that has ended")
	}
	s.space.pops.mu.Unlock()
	must.Fail(t, older.do(ctx, popCall(session, 1, s.instance, "k")), partd.ErrSessionExpired, "a pop in an ended session")
	wantValue(t, store, "k", "v")
}

// TestPopCountsAsUse checks that a session with only pops counts as used. Otherwise the server
// could forget it in favor of another session, and lose its unconfirmed results.
func TestPopCountsAsUse(t *testing.T) {
	s, c := serveClient(t, partd.NewDict(), nil)
	must.Get(c.Pop(t.Context(), "k"))(t)
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	if x := s.sessions.table[c.calls.ops.session]; x == nil || !x.used || x.list != nil {
		t.Errorf("after a pop, the session counts as unused: %+v", x)
	}
}

// TestPopIsConfirmed checks that the server deletes a pop's result once the client has received it.
func TestPopIsConfirmed(t *testing.T) {
	s, c := serveClient(t, partd.NewDict(), nil)
	must.Do(t, c.Append(t.Context(), entry("k", "v")))
	must.Get(c.Pop(t.Context(), "k"))(t)
	must.Eventually(t, 10*time.Second, "the server still retains bytes of the pop", func() bool {
		s.pops.mu.Lock()
		defer s.pops.mu.Unlock()
		return s.pops.keptBytes == 0
	})
}

// TestForgottenPops checks that no pop runs twice, even if its session was forgotten after the first time.
func TestForgottenPops(t *testing.T) {
	q := quotas{tenants: map[string]*tenant{}, limit: [numResources]int64{popBytes: 1 << 20}}
	var p retainedPops
	p.init(&q, &lostPops{})
	peer := q.acquire("peer")
	for _, session := range []uint64{1, 2} {
		p.begin(session)
		r := must.Get(p.claim(peer, session, 1, false))(t)
		p.finish(session, 1, r, [][]byte{[]byte("v")}, nil)
	}
	p.end(2)
	p.register(1)
	p.register(2)
	if r, err := p.claim(peer, 1, 1, true); err != nil || r.bytes != 9 {
		t.Errorf("claim of a resent pop with a retained result = %v, want nil and 9 bytes", err)
	}
	if _, err := p.claim(peer, 2, 1, true); !errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("claim of a resent pop in a forgotten session = %v, want ErrUnknownOutcome", err)
	}
	if _, err := p.claim(peer, 2, 2, false); err != nil {
		t.Errorf("claim of a new pop in a forgotten session = %v, want nil", err)
	}
	p.acknowledge(1, 1)
	must.Fail(t, must.Err(p.claim(peer, 1, 1, true)), partd.ErrUnknownOutcome, "claim of a pop that was confirmed")
	p.begin(4)
	running := must.Get(p.claim(peer, 4, 1, false))(t)
	p.end(4)
	p.finish(4, 1, running, [][]byte{[]byte("v")}, nil)
	if p.keptBytes != 0 {
		t.Errorf("%d bytes are retained of a pop whose session ended while it ran, want 0", p.keptBytes)
	}
	p.begin(3)
	if _, err := p.claim(peer, 3, 1, true); err != nil {
		t.Errorf("claim of a pop in a new session = %v, want nil", err)
	}
	p.close()
	if p.keptBytes != 0 || q.used[popBytes] != 0 {
		t.Errorf("after close, %d bytes are retained and %d are charged, want 0", p.keptBytes, q.used[popBytes])
	}
}

// TestRefusedPops checks that a pop without a session is refused, and so is a pop whose keys exceed a message.
func TestRefusedPops(t *testing.T) {
	store := partd.NewDict()
	_, c := serveClient(t, store, &ServerOptions{MaxMessage: minMessage})
	var keys []string
	for i := range 6 {
		keys = append(keys, fmt.Sprint(i)+strings.Repeat("k", partd.MaxKeyLen-1))
		must.Do(t, c.Append(ctx, entry(keys[i], "v")))
	}
	must.Fail(t, c.do(ctx, popCall(0, 0, 0, keys[0])), ErrBadRequest, "a pop without a session")
	must.Fail(t, must.Err(c.Pop(ctx, keys...)), partd.ErrTooLarge, "a pop of keys longer than a message")
	if values, err := c.Pop(ctx, keys[0]); err != nil || string(values[0]) != "v" {
		t.Errorf("the next pop = %q, %v, want v", values, err)
	}
	if values := must.Get(store.Get(ctx, keys...))(t); string(bytes.Join(values, nil)) != "vvvvv" {
		t.Errorf("the store has the values %q, want those of the five keys that were not popped", values)
	}
}

// TestFailingPops checks that the server does not retain the errors of failed pops.
func TestFailingPops(t *testing.T) {
	s, c := serveClient(t, &faultyStore{Partd: partd.NewDict()}, nil)
	for i := range maxPops + 20 {
		must.Fail(t, must.Err(c.Pop(ctx, "k")), errors.ErrUnsupported, "pop %d of a store without Pop", i)
	}
	s.pops.mu.Lock()
	defer s.pops.mu.Unlock()
	for _, x := range s.pops.sessions {
		if n := len(x.results); n > 2 {
			t.Errorf("the server retains the errors of %d pops, want at most 2", n)
		}
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
	p := newProxy(t, url, nettest.CutNever)
	c := dial(t, p.URL(), nil)
	done := make(chan error, 1)
	go func() {
		_, err := c.Pop(t.Context(), "k")
		done <- err
	}()
	<-store.blocked
	c.mu.Lock()
	session := c.calls.ops.session
	c.mu.Unlock()
	s.space.pops.end(session)
	p.Cut()
	must.Fail(t, <-done, partd.ErrUnknownOutcome, "a resent pop whose result was forgotten")
}

// damagingStore is a store whose Pop first damages a key, as another program could.
type damagingStore struct{ *partd.Dict }

func (s damagingStore) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := s.Set(ctx, "damaged", []byte("x")); err != nil {
		return nil, err
	}
	return s.Dict.Pop(ctx, keys...)
}

// TestPopOfUndecodableValues checks that the server restores the values that a layer popped and could not decode.
func TestPopOfUndecodableValues(t *testing.T) {
	dict := partd.NewDict()
	must.Do(t, dict.Append(t.Context(), entry("good", "01"), entry("damaged", "02")))
	l := storekit.NewLayer(damagingStore{dict}, storekit.Hooks{
		Name: "hex",
		Out:  func(_ context.Context, _ string, stored io.Reader) io.Reader { return hex.NewDecoder(stored) },
	})
	_, c := serveClient(t, &l, nil)
	if v, err := c.Pop(t.Context(), "good", "damaged"); v != nil || err == nil || strings.Contains(err.Error(), "removed") {
		t.Errorf("Pop of a damaged value = %q, %v, want an error that does not say that values were removed", v, err)
	}
	wantValue(t, dict, "good", "01")
	wantValue(t, dict, "damaged", "x")
}
