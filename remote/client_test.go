package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
)

// faultyStore is a store whose appends return the given errors.
type faultyStore struct {
	partd.Partd
	mu      sync.Mutex
	errs    []error       // errors of the next appends; nil means success
	unblock chan struct{} // if not nil, appends block until it is closed
	blocked atomic.Int64  // number of appends that have blocked
}

// waitBlocked waits until an append blocks.
func (f *faultyStore) waitBlocked(t testing.TB) {
	t.Helper()
	must.Eventually(t, time.Minute, "no append has reached the store", func() bool { return f.blocked.Load() > 0 })
}

func (f *faultyStore) Append(ctx context.Context, entries ...partd.Entry) error {
	f.mu.Lock()
	var err error
	if len(f.errs) > 0 {
		err, f.errs = f.errs[0], f.errs[1:]
	}
	wait := f.unblock
	f.mu.Unlock()
	if wait != nil {
		f.blocked.Add(1)
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err != nil {
		return err
	}
	return f.Partd.Append(ctx, entries...)
}

// wantValue checks the value of a key.
func wantValue(t testing.TB, store partd.Partd, key, want string) {
	t.Helper()
	if v := must.Get(store.Get(context.Background(), key))(t); string(v[0]) != want {
		t.Errorf("the value of key %q is %q, want %q", key, v[0], want)
	}
}

func entry(key, value string) partd.Entry { return partd.Entry{Key: key, Value: []byte(value)} }

// TestErrors checks that a store's errors arrive unchanged, except for the directory of a file.
func TestErrors(t *testing.T) {
	for _, want := range []error{
		errors.ErrUnsupported, partd.ErrTooLarge, partd.ErrUnknownOutcome, partd.ErrNeedsReopen, partd.ErrClosed, syscall.ENOSPC,
		fs.ErrPermission, syscall.EROFS, syscall.EIO, fs.ErrNotExist, syscall.EDQUOT, syscall.EMFILE, ErrBusy,
	} {
		store := &faultyStore{Partd: partd.NewDict(), errs: []error{&partd.Error{Op: "append", Key: "k\x00", HasKey: true, Path: "/some/file", Err: fmt.Errorf("it failed: %w", want)}}}
		_, url := serve(t, store, nil)
		c := dial(t, url, nil)
		err := c.Append(ctx, entry("k", "v"))
		var e *partd.Error
		if !errors.Is(err, want) || !errors.As(err, &e) || e.Key != "k\x00" || !e.HasKey || e.Path != url {
			t.Errorf("the store's error %v arrived as %v", want, err)
		}
		for _, part := range []string{"it failed", " file: ", url} {
			if strings.Count(err.Error(), part) != 1 {
				t.Errorf("the error %q contains %q %d times, want once", err, part, strings.Count(err.Error(), part))
			}
		}
		must.Do(t, c.Append(ctx, entry("k", "w")))
		wantValue(t, c, "k", "w")
	}
	store := &faultyStore{Partd: partd.NewDict(), errs: []error{fmt.Errorf("reading: %w", &partd.CorruptError{Path: "seg-1", Offset: 77, Err: errors.New("bad sum")})}}
	_, url := serve(t, store, nil)
	err := dial(t, url, nil).Append(ctx, entry("k", "v"))
	var corrupt *partd.CorruptError
	if !errors.As(err, &corrupt) || corrupt.Path != "seg-1" || corrupt.Offset != 77 {
		t.Errorf("Append = %v, want a CorruptError with the path seg-1 and the offset 77", err)
	}
}

// TestFailuresOfConcurrentChanges makes some of many concurrent changes fail. Only the failed
// changes may be missing, and each other change must be applied once.
func TestFailuresOfConcurrentChanges(t *testing.T) {
	store := &faultyStore{Partd: partd.NewDict()}
	for i := range 200 {
		var err error
		if i%7 == 3 {
			err = syscall.ENOSPC
		}
		store.errs = append(store.errs, err)
	}
	_, c := serveClient(t, store, nil)
	var failed, done atomic.Int64
	must.Concurrently(8, func(w int) {
		for i := range 50 {
			key := fmt.Sprintf("%d/%d", w, i)
			err := c.Append(ctx, entry(key, "x"))
			switch {
			case err == nil:
				done.Add(1)
			case errors.Is(err, syscall.ENOSPC):
				failed.Add(1)
				key += " (failed)"
			default:
				t.Errorf("Append to %s: %v", key, err)
			}
			v, getErr := store.Get(ctx, fmt.Sprintf("%d/%d", w, i))
			if getErr != nil || (err == nil) != (string(v[0]) == "x") {
				t.Errorf("Append to %s = %v, but the store has %q", key, err, v[0])
			}
		}
	})
	if failed.Load() != 29 || done.Load() != 371 {
		t.Errorf("%d changes failed and %d succeeded, want 29 and 371", failed.Load(), done.Load())
	}
}

// TestContexts checks that a call ends with its context, even while the server is busy. An
// abandoned change must be applied at most once, and later changes must not be lost.
func TestContexts(t *testing.T) {
	store := &faultyStore{Partd: partd.NewDict(), unblock: make(chan struct{})}
	_, url := serve(t, store, nil)
	p := newProxy(t, url, nettest.CutNever)
	c := dial(t, p.URL(), nil)
	for i, e := range []partd.Entry{entry("a", "1"), entry("a", "2"), {Key: "a", Value: make([]byte, 30<<20)}} {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond) // long enough to send the first two
		begin := time.Now()
		err := c.Append(ctx, e)
		cancel()
		if !errors.Is(err, partd.ErrUnknownOutcome) && i < 2 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("append %d = %v, want DeadlineExceeded, with an unknown outcome if it was sent", i, err)
		}
		if d := time.Since(begin); d > time.Minute {
			t.Errorf("append %d took %v, want at most a minute", i, d)
		}
	}
	p.Cut()
	store.mu.Lock()
	close(store.unblock)
	store.unblock = nil
	store.mu.Unlock()
	ctx := context.Background()
	must.Do(t, c.Append(ctx, entry("b", "3")))
	must.Do(t, c.Append(ctx, entry("b", "4")))
	v := must.Get(c.Get(ctx, "a", "b"))(t)
	if got := string(v[0][:min(len(v[0]), 4)]); got != "" && got != "1" && got != "12" && !strings.HasPrefix(got, "12") || string(v[1]) != "34" {
		t.Errorf("key a begins with %q and key b is %q, want the pieces of a in order, and 34", got, v[1])
	}
	must.Fail(t, must.Err(c.Get(cancelledContext(), "a")), context.Canceled, "Get with a canceled context")
}

func cancelledContext() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// stuckConn is a connection whose peer stops reading.
type stuckConn struct {
	net.Conn
	full    atomic.Bool
	expired chan struct{} // receives a value when a write deadline expires
	closed  chan struct{}
	once    sync.Once
}

func (s *stuckConn) Write(b []byte) (int, error) {
	if s.full.Load() {
		select {
		case <-s.expired:
			return 0, os.ErrDeadlineExceeded
		case <-s.closed:
			return 0, net.ErrClosed
		}
	}
	return s.Conn.Write(b)
}

func (s *stuckConn) SetWriteDeadline(t time.Time) error {
	if !t.IsZero() {
		time.AfterFunc(time.Until(t), func() { s.expired <- struct{}{} })
	}
	return nil
}

func (s *stuckConn) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.Conn.Close()
}

// TestCloseIsBounded checks that Close returns even if the server no longer reads.
func TestCloseIsBounded(t *testing.T) {
	t.Parallel()
	_, c := serveClient(t, partd.NewDict(), nil)
	must.Do(t, c.Append(ctx, entry("k", "v")))
	c.mu.Lock()
	s := &stuckConn{Conn: c.link.nc, expired: make(chan struct{}, 2), closed: make(chan struct{})}
	s.full.Store(true)
	c.link.nc = s // nobody else writes now
	c.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- c.Close() }()
	select {
	case err := <-done:
		must.Do(t, err)
	case <-time.After(10 * closeTimeout):
		t.Error("Close still waits for a server that does not read, after ten times closeTimeout")
		must.Do(t, s.Close())
		must.Do(t, <-done)
	}
}

// TestReconnectingHasJitter checks that clients of a server do not all reconnect at the same time.
func TestReconnectingHasJitter(t *testing.T) {
	o := outage{backoff: lastBackoff}
	waits := map[time.Duration]bool{}
	for range 100 {
		wait := must.Get(o.pause(time.Hour))(t)
		if waits[wait] = true; wait < lastBackoff/2 || wait > lastBackoff {
			t.Errorf("pause = %v, want %v to %v", wait, lastBackoff/2, lastBackoff)
		}
	}
	if len(waits) < 50 {
		t.Errorf("100 calls of pause returned %d different durations, want at least 50", len(waits))
	}
}

// TestNoServer checks that a client stops trying to connect after its time limit.
func TestNoServer(t *testing.T) {
	s, url := serve(t, partd.NewDict(), nil)
	c := dial(t, url, &ClientOptions{RetryFor: 200 * time.Millisecond})
	must.Do(t, c.Append(ctx, entry("k", "v")))
	must.Do(t, s.Shutdown(ctx))
	for range 2 {
		begin := time.Now()
		must.Fail(t, must.Err(c.Get(ctx, "k")), syscall.ECONNREFUSED, "Get without a server")
		if d := time.Since(begin); d < 100*time.Millisecond || d > 10*time.Second {
			t.Errorf("Get without a server took %v, want about 200 ms", d)
		}
	}
	shortCtx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := c.Append(shortCtx, entry("k", "v")); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("Append without a server = %v, want DeadlineExceeded", err)
	}
	must.Fail(t, must.Err(Dial(ctx, url, nil)), syscall.ECONNREFUSED, "Dial without a server")
}

// TestAbandonedChangeIsNotResent loses a change together with its connection. Its caller gives up
// before the client reconnects. The client must not send the change late, but must send later ones.
func TestAbandonedChangeIsNotResent(t *testing.T) {
	_, c := serveClient(t, partd.NewDict(), nil)
	changeCtx, giveUp := context.WithCancel(ctx)
	lose, dialNet, abandoned := new(atomic.Bool), c.dial, make(chan struct{})
	c.dial = func(ctx context.Context) (net.Conn, error) {
		if lose.CompareAndSwap(true, false) {
			giveUp()
			<-abandoned
		}
		nc, err := dialNet(ctx)
		return lossyConn{nc, lose}, err
	}
	abortLink(c) // the next connection is a lossyConn
	must.Do(t, c.Append(ctx, entry("k", "first ")))
	lose.Store(true)
	err := c.Append(changeCtx, entry("k", "second "))
	if !errors.Is(err, partd.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Errorf("Append whose caller gives up = %v, want ErrUnknownOutcome and Canceled", err)
	}
	close(abandoned)
	must.Do(t, c.Append(ctx, entry("k", "third")))
	wantValue(t, c, "k", "first third")
}

// currentLink returns a client's connection, which a reconnection replaces.
func currentLink(c *Client) *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link
}

// abortLink breaks a client's connection.
func abortLink(c *Client) {
	l := currentLink(c)
	l.abort()
	<-l.done
}

// blockingDict is a Dict whose numbered changes block until unblock is closed.
type blockingDict struct {
	*partd.Dict
	unblock chan struct{}
}

func (b blockingDict) Apply(ctx context.Context, tag partd.Tag, op partd.Operation) (bool, error) {
	select {
	case <-b.unblock:
		return b.Dict.Apply(ctx, tag, op)
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// TestCanceledAppendKeepsScans cancels an append while the server does not read. Scans of other goroutines, which need
// the same connection, must continue.
func TestCanceledAppendKeepsScans(t *testing.T) {
	store := blockingDict{partd.NewDict(), make(chan struct{})}
	const n = 40
	for i := range n {
		must.Do(t, store.Dict.Append(ctx, partd.Entry{Key: fmt.Sprint(i), Value: make([]byte, 1<<20)}))
	}
	_, c := serveClient(t, store, &ServerOptions{Memory: 128 << 20}) // reads no fifth append
	before := currentLink(c)
	next, stop := iter.Pull2(c.Scan(ctx))
	defer stop()
	chunk, err, _ := next()
	must.Do(t, err)
	received := len(chunk.Data)
	large := partd.Entry{Key: "a", Value: make([]byte, 30<<20)}
	for range 6 {
		appendCtx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		err := c.Append(appendCtx, large)
		cancel()
		must.Fail(t, err, context.DeadlineExceeded, "Append while the server does not read")
	}
	close(store.unblock)
	for {
		chunk, err, ok := next()
		if !ok {
			break
		}
		if err != nil {
			t.Fatalf("after another goroutine's Append was canceled, Scan fails after %d bytes: %v", received, err)
		}
		received += len(chunk.Data)
	}
	if received < n<<20 || currentLink(c) != before {
		t.Errorf("Scan yields %d bytes, and the client's connection is another: %v; want at least %d bytes over one connection", received, currentLink(c) != before, n<<20)
	}
	must.Do(t, c.Append(ctx, entry("b", "later")))
	wantValue(t, c, "b", "later")
}
