package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
)

// TestStalledUpload checks that the memory of a stalled upload is released for others,
// even if its peer sends other requests.
func TestStalledUpload(t *testing.T) {
	ctx := context.Background()
	s, url := serve(t, partd.NewDict(), &ServerOptions{Memory: 4 << 20, MaxMessage: 1 << 20, StallTimeout: 300 * time.Millisecond})
	s.partTime = 0
	for range 2 {
		p := openPeer(t, url)
		part := newCall(opPart)
		part.u64(1)
		part.u64(2 << 20)
		part.u64(0)
		part.appendData(make([]byte, 1<<20-200))
		p.send(part.parts()...)
		go func() {
			ping := newCall(opPing)
			ping.number = 1
			for range 100 {
				if _, err := p.Write(joinBytes(ping.parts()...)); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		p.wantClosed()
	}
	c := dial(t, url, nil)
	must(t, c.Append(ctx, partd.Entry{Key: "k", Value: make([]byte, 15<<17)}))
}

// TestForgottenPops checks that no pop runs twice if its session was forgotten in
// between.
func TestForgottenPops(t *testing.T) {
	l := quotas{tenants: map[string]*tenant{}, limit: [resources]int64{popBytes: 1 << 20}}
	var p retainedPops
	p.init(&l, &lostPops{})
	own := l.enter("peer")
	for _, session := range []uint64{1, 2} {
		p.begin(session)
		r, err := p.claim(own, session, 1, false)
		must(t, err)
		p.finish(session, 1, r, [][]byte{[]byte("v")}, nil)
	}
	p.end(2)
	p.enter(1)
	p.enter(2)
	if r, err := p.claim(own, 1, 1, true); err != nil || r.bytes != 9 {
		t.Errorf("a kept result: %v", err)
	}
	if _, err := p.claim(own, 2, 1, true); !errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("a resent pop of a forgotten session: %v", err)
	}
	if _, err := p.claim(own, 2, 2, false); err != nil {
		t.Errorf("a new pop of a forgotten session: %v", err)
	}
	p.begin(3)
	if _, err := p.claim(own, 3, 1, true); err != nil {
		t.Errorf("a pop of a new session: %v", err)
	}
	p.close()
	if p.kept != 0 || l.used[popBytes] != 0 {
		t.Errorf("%d and %d bytes were not released", p.kept, l.used[popBytes])
	}
}

// TestPopOfLongKeys pops keys that together exceed a message, and checks that a pop
// without a session loses nothing.
func TestPopOfLongKeys(t *testing.T) {
	ctx := context.Background()
	store := partd.NewDict()
	_, url := serve(t, store, &ServerOptions{MaxMessage: minMessage})
	c := dial(t, url, nil)
	var keys []string
	for i := range 6 {
		keys = append(keys, fmt.Sprint(i)+strings.Repeat("k", partd.MaxKeyLen-1))
		must(t, c.Append(ctx, entry(keys[i], fmt.Sprint("v", i))))
	}
	k := newCall(opPop)
	k.u64(0)
	k.buf = appendKeys(k.buf, keys[:1])
	if err := c.do(ctx, k); !errors.Is(err, ErrBadRequest) {
		t.Errorf("a pop without a session: %v", err)
	}
	values, err := c.Pop(ctx, keys...)
	must(t, err)
	for i, v := range values {
		if string(v) != fmt.Sprint("v", i) {
			t.Errorf("value %d is %q", i, v)
		}
	}
	values, err = store.Get(ctx, keys...)
	if must(t, err); len(bytes.Join(values, nil)) > 0 {
		t.Error("the popped key still exists")
	}
}

// TestFailingPops checks that failed pops do not use memory forever.
func TestFailingPops(t *testing.T) {
	ctx := context.Background()
	s, url := serve(t, &faulty{Partd: partd.NewDict()}, nil)
	c := dial(t, url, nil)
	for i := range maxPops + 20 {
		if _, err := c.Pop(ctx, "k"); !errors.Is(err, errors.ErrUnsupported) {
			t.Fatalf("pop %d of a store without Pop: %v", i, err)
		}
	}
	s.pops.mu.Lock()
	defer s.pops.mu.Unlock()
	for _, x := range s.pops.sessions {
		if n := len(x.results); n > 2 {
			t.Errorf("the errors of %d pops are kept", n)
		}
	}
}

// TestGetWaitsForMemory checks that a value is not copied from a store in memory while
// memory is short.
func TestGetWaitsForMemory(t *testing.T) {
	ctx := context.Background()
	store := partd.NewDict()
	must(t, store.Append(ctx, partd.Entry{Key: "k", Value: make([]byte, 1<<20)}))
	s, url := serve(t, store, &ServerOptions{Memory: 4 << 20, StallTimeout: 100 * time.Millisecond})
	c := dial(t, url, nil)
	giveBack := takeAll(t, s)
	if _, err := c.Get(ctx, "k"); !errors.Is(err, ErrBusy) {
		t.Errorf("get without memory: %v", err)
	}
	giveBack()
	_, err := c.Get(ctx, "k")
	must(t, err)
}

// TestExpiredWhenSentAgain checks that a resent operation of an ended session is not
// reported as unapplied, because it may have been applied.
func TestExpiredWhenSentAgain(t *testing.T) {
	ctx := context.Background()
	store := &faulty{Partd: partd.NewDict(), wait: make(chan struct{})}
	s, url := serve(t, store, nil)
	p := newProxy(t, url, noLimit)
	c := dial(t, p.url(), nil)
	session, err := c.NewSession(ctx)
	must(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := c.Apply(ctx, partd.Tag{Session: session, Number: 1}, partd.Operation{Entries: []partd.Entry{entry("k", "v")}})
		done <- err
	}()
	time.Sleep(100 * time.Millisecond) // the operation is being applied
	s.sessions.mu.Lock()
	s.sessions.remove(s.sessions.table[session])
	s.sessions.mu.Unlock()
	p.cut()
	if err := <-done; !errors.Is(err, partd.ErrUnknownOutcome) || !errors.Is(err, partd.ErrSessionExpired) {
		t.Errorf("a resent operation of an ended session: %v", err)
	}
	close(store.wait)
}

// TestShutdownOfSilentPeers checks that Shutdown does not wait for peers that have not
// finished their handshake.
func TestShutdownOfSilentPeers(t *testing.T) {
	s, url := serve(t, partd.NewDict(), nil)
	rawPeer(t, url)
	half := rawPeer(t, url)
	half.send(greeting())
	dial(t, url, nil)
	begin := time.Now()
	must(t, s.Shutdown(context.Background()))
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("Shutdown took %v", d)
	}
}

// TestAbortedRequests checks that a request that failed only because its connection ends
// gets no answer. The client would take the answer for the request's own error, while
// another connection has the result.
func TestAbortedRequests(t *testing.T) {
	s, err := NewServer(partd.NewDict(), nil)
	must(t, err)
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
		c.cancel() // like abort, before it hangs up
		err := do(c, c.ctx.Err())
		must(t, ours.Close())
		if n := <-answered; err == nil || n > 0 {
			t.Errorf("%s: %d bytes of an answer, %v", label, n, err)
		}
		c.account.close()
		s.quotas.leave(c.tenant)
	}
}
