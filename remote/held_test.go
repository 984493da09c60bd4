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

// TestStalledUpload checks that memory of a stalled upload is released even if its peer sends other requests.
func TestStalledUpload(t *testing.T) {
	ctx := context.Background()
	s, url := serve(t, partd.NewDict(), &ServerOptions{Memory: 4 << 20, MaxMessage: 1 << 20, StallTimeout: 300 * time.Millisecond})
	s.partTimeout = 0
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

// TestForgottenPops checks that no pop runs twice, even if its session was forgotten after the first time.
func TestForgottenPops(t *testing.T) {
	q := quotas{tenants: map[string]*tenant{}, limit: [resources]int64{popBytes: 1 << 20}}
	var p retainedPops
	p.init(&q, &lostPops{})
	peer := q.enter("peer")
	for _, session := range []uint64{1, 2} {
		p.begin(session)
		r, err := p.claim(peer, session, 1, false)
		must(t, err)
		p.finish(session, 1, r, [][]byte{[]byte("v")}, nil)
	}
	p.end(2)
	p.enter(1)
	p.enter(2)
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
	if _, err := p.claim(peer, 1, 1, true); !errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("claim of a pop that was confirmed = %v, want ErrUnknownOutcome", err)
	}
	p.begin(4)
	running, err := p.claim(peer, 4, 1, false)
	must(t, err)
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

// TestPopOfLongKeys pops keys that together exceed a message, and sends a pop without a session.
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
		t.Errorf("a pop without a session = %v, want ErrBadRequest", err)
	}
	values, err := c.Pop(ctx, keys...)
	must(t, err)
	for i, v := range values {
		if string(v) != fmt.Sprint("v", i) {
			t.Errorf("popped value %d is %q, want v%d", i, v, i)
		}
	}
	values, err = store.Get(ctx, keys...)
	if must(t, err); len(bytes.Join(values, nil)) > 0 {
		t.Error("the popped keys still exist")
	}
}

// TestFailingPops checks that the server does not retain the errors of failed pops.
func TestFailingPops(t *testing.T) {
	ctx := context.Background()
	s, url := serve(t, &faultyStore{Partd: partd.NewDict()}, nil)
	c := dial(t, url, nil)
	for i := range maxPops + 20 {
		if _, err := c.Pop(ctx, "k"); !errors.Is(err, errors.ErrUnsupported) {
			t.Fatalf("pop %d of a store without Pop = %v, want ErrUnsupported", i, err)
		}
	}
	s.pops.mu.Lock()
	defer s.pops.mu.Unlock()
	for _, x := range s.pops.sessions {
		if n := len(x.results); n > 2 {
			t.Errorf("the server retains the errors of %d pops, want at most 2", n)
		}
	}
}

// TestGetWaitsForMemory checks that a get of a store in memory waits for memory for the value.
func TestGetWaitsForMemory(t *testing.T) {
	ctx := context.Background()
	store := partd.NewDict()
	must(t, store.Append(ctx, partd.Entry{Key: "k", Value: make([]byte, 1<<20)}))
	s, url := serve(t, store, &ServerOptions{Memory: 4 << 20, StallTimeout: 100 * time.Millisecond})
	c := dial(t, url, nil)
	giveBack := takeAll(t, s)
	if _, err := c.Get(ctx, "k"); !errors.Is(err, ErrBusy) {
		t.Errorf("Get without memory = %v, want ErrBusy", err)
	}
	giveBack()
	_, err := c.Get(ctx, "k")
	must(t, err)
}

// TestResentOperationOfEndedSession checks that a resent operation of an ended session gets an unknown outcome, because
// the server may have applied it before the session ended.
func TestResentOperationOfEndedSession(t *testing.T) {
	ctx := context.Background()
	store := &faultyStore{Partd: partd.NewDict(), unblock: make(chan struct{})}
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
		t.Errorf("a resent operation of an ended session = %v, want ErrUnknownOutcome and ErrSessionExpired", err)
	}
	close(store.unblock)
}

// TestShutdownOfSilentPeers checks that Shutdown does not wait for peers that have not finished their handshake.
func TestShutdownOfSilentPeers(t *testing.T) {
	s, url := serve(t, partd.NewDict(), nil)
	rawPeer(t, url)
	half := rawPeer(t, url)
	half.send(greeting())
	dial(t, url, nil)
	begin := time.Now()
	must(t, s.Shutdown(context.Background()))
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("Shutdown took %v, want at most 5 s", d)
	}
}

// TestAbortedRequests checks that a request gets no answer if it failed only because its connection
// ended. The client would mistake the answer for the request's own error, although it gets the
// result over another connection.
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
		c.cancel() // as abort does before it closes the connection
		err := do(c, c.ctx.Err())
		must(t, ours.Close())
		if n := <-answered; err == nil || n > 0 {
			t.Errorf("%s on an aborted connection was answered with %d bytes, %v, want an error and no answer", label, n, err)
		}
		c.account.close()
		s.quotas.leave(c.tenant)
	}
}
