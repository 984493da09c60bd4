package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// warnings counts the warnings in a log.
type warnings struct {
	slog.Handler
	count atomic.Int64
}

func newWarnings() *warnings { return &warnings{Handler: slog.DiscardHandler} }

func (w *warnings) Enabled(context.Context, slog.Level) bool { return true }

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		w.count.Add(1)
	}
	return nil
}

// dialFrom dials from the loopback address ip, so that the server counts the client as a different peer.
func dialFrom(t testing.TB, url, ip string) *Client {
	t.Helper()
	if runtime.GOOS != "linux" {
		procs.Skip(t, "only Linux has many loopback addresses")
	}
	target := must.Get(parseURL(url))(t)
	c := must.Get(newClient(url, nil))(t)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c.dial = func(ctx context.Context) (net.Conn, error) {
		return dialer.DialContext(ctx, target.network, target.address)
	}
	must.Do(t, c.begin(context.Background()))
	t.Cleanup(func() { must.Do(t, c.Close()) })
	return c
}

// requireWithin fails the test if f fails or takes longer than d.
func requireWithin(t testing.TB, d time.Duration, label string, f func() error) {
	t.Helper()
	begin := time.Now()
	if err := f(); err != nil {
		t.Errorf("%s: %v", label, err)
	}
	if elapsed := time.Since(begin); elapsed > d {
		t.Errorf("%s took %v, want at most %v", label, elapsed.Round(time.Millisecond), d)
	}
}

// TestQuotasForgetTenants checks that a tenant is known as long as it holds something, and no longer.
func TestQuotasForgetTenants(t *testing.T) {
	t.Parallel()
	var q quotas
	q.init(&ServerOptions{})
	tenant := q.acquire("a tenant")
	q.add(tenant, openHandles, 2)
	q.release(tenant)
	q.add(tenant, openHandles, -1)
	if q.acquire("a tenant") != tenant {
		t.Error("a tenant with a handle was forgotten")
	}
	q.release(tenant)
	q.add(tenant, openHandles, -1)
	if len(q.tenants) > 0 {
		t.Error("a tenant that holds nothing and has no connection is still known")
	}
}

// TestConnectionShares checks that other peers are admitted although one peer has all connections, and that this
// peer gets another connection once some of its connections are idle.
func TestConnectionShares(t *testing.T) {
	t.Parallel()
	s, url := serve(t, partd.NewDict(), &ServerOptions{MaxConnections: 20})
	worker := dial(t, url, nil)
	must.Do(t, worker.Append(ctx, entry("k", "1")))
	first := currentLink(worker)
	for range 19 {
		go openPeer(t, url).Write(message("syn"))
	}
	must.Eventually(t, time.Minute, "the peer has not filled the server", func() bool { return s.connCount() == 20 })
	for range 6 {
		p := rawPeer(t, url)
		go p.Write(joinBytes(greeting(), ready("DEALER"), message("syn")))
	}
	requireWithin(t, 30*time.Second, "an append by another peer", func() error { return dialFrom(t, url, "127.0.0.2").Append(ctx, entry("k", "2")) })
	requireWithin(t, 30*time.Second, "an append on a new connection from the same address", func() error {
		for {
			c, err := Dial(ctx, url, nil)
			if err != nil {
				time.Sleep(50 * time.Millisecond)
				continue
			}
			return errors.Join(c.Append(ctx, entry("k", "3")), c.Close())
		}
	})
	must.Do(t, worker.Append(ctx, entry("k", "4")))
	if currentLink(worker) != first {
		t.Error("the server closed the connection that sends requests instead of an unused one")
	}
}

// TestConnectionWaitingForMemoryIsInUse makes a request wait for memory for its keys. While it waits,
// its connection must count as used. A connection with a change by Python's client must not be
// evicted, because the client would wait forever for an answer.
func TestConnectionWaitingForMemoryIsInUse(t *testing.T) {
	keys := make([]string, 600)
	python := make([][]byte, 1+len(keys))
	python[0] = []byte("delete")
	for name, requestNext := range map[string]func(c *conn) error{
		"get": func(c *conn) error {
			return c.request([][]byte{append(request{op: opGet, number: 1}.append(nil), appendKeys(nil, keys)...)})
		},
		"Python's delete": func(c *conn) error { return c.handlePython(python) },
	} {
		s := must.Get(NewServer(partd.NewDict(), nil))(t)
		ours, theirs := net.Pipe()
		c := newConn(s, theirs, 1)
		go io.Copy(io.Discard, ours)
		other := s.budget.newAccount(s.budget.acquire("other"), time.Minute, func() {})
		other.force(s.opts.Memory)
		done := make(chan error, 1)
		go func() { done <- requestNext(c) }()
		for waiting := 0; waiting == 0; {
			if len(done) > 0 {
				t.Fatalf("%s did not wait for memory", name)
			}
			s.budget.mu.Lock()
			waiting = c.account.waiting
			s.budget.mu.Unlock()
			runtime.Gosched()
		}
		if !c.hasRequested.Load() || name != "get" && c.account.pins.Load() == 0 {
			t.Errorf("%s: the connection of the waiting request counts as unused or may be evicted", name)
		}
		other.give(s.opts.Memory)
		must.Do(t, <-done)
		c.abort()
		must.Do(t, s.Shutdown(t.Context()))
	}
}

// TestHandleShares opens more handles (readers and listings) than the limit allows. The server must
// close handles of the peer that has the most, beginning with the handles that have been idle
// longest.
func TestHandleShares(t *testing.T) {
	store := must.Get(partd.OpenFile(t.TempDir(), nil))(t)
	for i := range 200 {
		must.Do(t, store.Append(ctx, partd.Entry{Key: fmt.Sprint("k", i), Value: make([]byte, 100<<10)}))
	}
	must.Do(t, store.Append(ctx, partd.Entry{Key: "large", Value: make([]byte, 2*defaultPage)}))
	s, url := serve(t, store, &ServerOptions{MaxHandles: 100})
	before := descriptors(t)
	greedy := dial(t, url, nil)
	honest := dialFrom(t, url, "127.0.0.2")
	for i := range maxHandles { // a listing of a part of the keys counts as one handle
		req := newCall(opScan)
		req.u32(uint32(i % 2))
		req.u32(2)
		must.Do(t, greedy.do(ctx, req))
	}
	secondGreedy := dial(t, url, nil)
	for range maxHandles - 20 {
		must.Get(secondGreedy.Open(ctx, "large"))(t)
	}
	if n := descriptors(t) - before; n > 100*scanFiles+50 {
		t.Errorf("100 handles use %d file descriptors, want at most %d", n, 100*scanFiles+50)
	}
	requireWithin(t, 10*time.Second, "reading by another peer", func() error {
		r, err := honest.Open(ctx, "large")
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, r)
		if n != 2*defaultPage {
			t.Errorf("read %d bytes, want %d", n, 2*defaultPage)
		}
		return errors.Join(err, r.Close())
	})
	if used := s.openHandles(); used > 100 {
		t.Errorf("%d handles are open, want at most 100", used)
	}
	must.Do(t, errors.Join(greedy.Close(), secondGreedy.Close()))
}

// openHandles returns the number of open readers and listings.
func (s *Server) openHandles() int64 {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	return s.budget.used[openHandles]
}

// scanFiles is the number of files that a Scan of a partd.File keeps open.
const scanFiles = 8

func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		procs.Skip(t, "only Linux lists the file descriptors of a process: %v", err)
	}
	return len(entries)
}

// TestListingsAfterDrop checks that abandoned listings are closed after a drop, because an open listing keeps deleted
// files on the disk.
func TestListingsAfterDrop(t *testing.T) {
	store := partd.NewDict()
	for i := range 100 {
		must.Do(t, store.Append(ctx, partd.Entry{Key: fmt.Sprint(i, strings.Repeat("k", 60_000)), Value: []byte("v")}))
	}
	s, c := serveClient(t, store, nil)
	must.Do(t, c.do(ctx, newCall(opKeys)))
	if used := s.openHandles(); used != 1 {
		t.Fatalf("%d listings are open before the drop, want 1", used)
	}
	must.Do(t, c.Drop(ctx))
	s.handles.closeDropped(s.space, time.Unix(0, s.dropped.Load()), 0) // the server makes this call some time after a drop, or when the disk is full
	if used := s.openHandles(); used != 0 {
		t.Errorf("%d listings are open after the drop, want 0", used)
	}
}

// TestPopShares checks that one peer's retained pop results do not keep other peers from popping.
func TestPopShares(t *testing.T) {
	store := partd.NewDict()
	_, url := serve(t, store, &ServerOptions{Memory: 32 << 20})
	greedy, honest := dial(t, url, nil), dialFrom(t, url, "127.0.0.2")
	for i := range 20 {
		must.Do(t, store.Append(ctx, partd.Entry{Key: fmt.Sprint(i), Value: make([]byte, 1<<20)}))
	}
	must.Do(t, store.Append(ctx, entry("honest", "value")))
	session, err := greedy.NewSession(ctx)
	must.Do(t, err)
	var pops int
	for i := range 20 {
		if err = greedy.do(ctx, popCall(session, uint64(i+1), greedy.instance, fmt.Sprint(i))); err != nil {
			break
		}
		pops++
	}
	must.Fail(t, err, ErrBusy, "a pop after %d unconfirmed pops", pops)
	v := must.Get(honest.Pop(ctx, "honest"))(t)
	if string(v[0]) != "value" {
		t.Errorf("Pop by another peer = %q, want value", v[0])
	}
	// Pops of a missing key in many other sessions must not make the server discard this session's retained result.
	for range maxConnSessions - 1 {
		id := must.Get(greedy.NewSession(ctx))(t)
		must.Do(t, greedy.do(ctx, popCall(id, 1, greedy.instance, "none")))
	}
	req := newCall(opPopRead)
	req.session, req.seq = session, 1
	req.u64(0)
	if err := greedy.do(ctx, req); err != nil || len(req.reply) < 1<<20 {
		t.Errorf("reading a retained result returned %d bytes, %v, want at least 1 MiB", len(req.reply), err)
	}
}

// TestSocketUsersArePeers checks that the user at the other end of a Unix socket counts as a peer.
func TestSocketUsersArePeers(t *testing.T) {
	s := must.Get(NewServer(partd.NewDict(), nil))(t)
	l := must.Get(Listen("ipc://" + filepath.Join(t.TempDir(), "s")))(t)
	go s.Serve(t.Context(), l)
	c := dial(t, URL(l.Addr()), nil)
	must.Do(t, c.simpleCall(t.Context(), opPing))
	s.budget.mu.Lock()
	user := fmt.Sprint("user ", os.Getuid())
	if runtime.GOOS == "linux" && s.budget.tenants[user] == nil {
		t.Errorf("the server has no tenant %q", user)
	}
	s.budget.mu.Unlock()
	must.Do(t, errors.Join(c.Close(), s.Shutdown(t.Context())))
}
