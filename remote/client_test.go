package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/zmtp"
)

// faulty is a store whose changes fail as they are told.
type faulty struct {
	partd.Partd
	mu   sync.Mutex
	errs []error // of the next appends, nil for those that work
	wait chan struct{}
}

func (f *faulty) Append(ctx context.Context, entries ...partd.Entry) error {
	f.mu.Lock()
	var err error
	if len(f.errs) > 0 {
		err, f.errs = f.errs[0], f.errs[1:]
	}
	wait := f.wait
	f.mu.Unlock()
	if wait != nil {
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

func one(key, value string) partd.Entry { return partd.Entry{Key: key, Value: []byte(value)} }

// TestErrors sees the errors of a store as they were.
func TestErrors(t *testing.T) {
	ctx := context.Background()
	for _, want := range []error{
		errors.ErrUnsupported, partd.ErrTooLarge, partd.ErrUnknownOutcome, partd.ErrNeedsReopen, partd.ErrClosed, syscall.ENOSPC,
		fs.ErrPermission, syscall.EROFS, syscall.EIO, fs.ErrNotExist, syscall.EDQUOT, syscall.EMFILE, ErrBusy,
	} {
		store := &faulty{Partd: partd.NewDict(), errs: []error{&partd.Error{Op: "append", Key: "k\x00", HasKey: true, Path: "/some/file", Err: fmt.Errorf("it failed: %w", want)}}}
		_, url := serve(t, store, nil)
		c := dial(t, url, nil)
		err := c.Append(ctx, one("k", "v"))
		var e *partd.Error
		if !errors.Is(err, want) || !errors.As(err, &e) || e.Key != "k\x00" || !e.HasKey || e.Path != url {
			t.Errorf("%v came as %v", want, err)
		}
		for _, part := range []string{"it failed", "/some/file", url} {
			if strings.Count(err.Error(), part) != 1 {
				t.Errorf("%q does not name %s once", err, part)
			}
		}
		must(t, c.Append(ctx, one("k", "w")))
		v, err := c.Get(ctx, "k")
		if must(t, err); string(v[0]) != "w" {
			t.Errorf("after %v: %q", want, v[0])
		}
	}
	store := &faulty{Partd: partd.NewDict(), errs: []error{fmt.Errorf("reading: %w", &partd.CorruptError{Path: "seg-1", Offset: 77, Err: errors.New("bad sum")})}}
	_, url := serve(t, store, nil)
	err := dial(t, url, nil).Append(ctx, one("k", "v"))
	var corrupt *partd.CorruptError
	if !errors.As(err, &corrupt) || corrupt.Path != "seg-1" || corrupt.Offset != 77 {
		t.Errorf("corrupt: %v", err)
	}
}

// TestFailuresInAPipeline lets some of many changes on their way fail: those
// alone are not applied, and each of the others once.
func TestFailuresInAPipeline(t *testing.T) {
	ctx := context.Background()
	store := &faulty{Partd: partd.NewDict()}
	for i := range 200 {
		var err error
		if i%7 == 3 {
			err = syscall.ENOSPC
		}
		store.errs = append(store.errs, err)
	}
	_, url := serve(t, store, nil)
	c := dial(t, url, nil)
	var wg sync.WaitGroup
	var failed, done atomic.Int64
	for w := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 50 {
				key := fmt.Sprintf("%d/%d", w, i)
				err := c.Append(ctx, one(key, "x"))
				switch {
				case err == nil:
					done.Add(1)
				case errors.Is(err, syscall.ENOSPC):
					failed.Add(1)
					key += " should not be there"
				default:
					t.Errorf("%s: %v", key, err)
				}
				v, gerr := store.Get(ctx, fmt.Sprintf("%d/%d", w, i))
				if gerr != nil || (err == nil) != (string(v[0]) == "x") {
					t.Errorf("%s: %v, the store has %q", key, err, v[0])
				}
			}
		}()
	}
	wg.Wait()
	if failed.Load() != 29 || done.Load() != 371 {
		t.Errorf("%d failed and %d worked, want 29 and 371", failed.Load(), done.Load())
	}
}

// TestContexts bounds each call by its context, also while the server is busy,
// and keeps the numbers in order: what was given up is applied once or not at
// all, and what follows is not lost.
func TestContexts(t *testing.T) {
	store := &faulty{Partd: partd.NewDict(), wait: make(chan struct{})}
	s, url := serve(t, store, nil)
	p := newProxy(t, url, never)
	c := dial(t, p.url(), nil)
	for i, e := range []partd.Entry{one("a", "1"), one("a", "2"), {Key: "a", Value: make([]byte, 30<<20)}} {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		begin := time.Now()
		err := c.Append(ctx, e)
		cancel()
		if !errors.Is(err, partd.ErrUnknownOutcome) && i < 2 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("append %d: %v", i, err)
		}
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("append %d took %v", i, d)
		}
	}
	p.cut()
	store.mu.Lock()
	close(store.wait)
	store.wait = nil
	store.mu.Unlock()
	ctx := context.Background()
	must(t, c.Append(ctx, one("b", "3")))
	must(t, c.Append(ctx, one("b", "4")))
	v, err := c.Get(ctx, "a", "b")
	must(t, err)
	if got := string(v[0][:min(len(v[0]), 4)]); got != "" && got != "1" && got != "12" && !strings.HasPrefix(got, "12") || string(v[1]) != "34" {
		t.Errorf("the store has %q and %q", got, v[1])
	}
	if _, err := c.Get(cancelled(), "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("get with a context that has ended: %v", err)
	}
	_ = s
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// TestLargeChanges sends what is too large for a message in parts, all or
// nothing, and what is too large for the server not at all.
func TestLargeChanges(t *testing.T) {
	ctx := context.Background()
	store := partd.NewDict()
	s, url := serve(t, store, &ServerOptions{Memory: 10 << 20, MaxMessage: 1 << 20})
	c := dial(t, url, nil)
	value := make([]byte, 3<<20)
	for i := range value {
		value[i] = byte(i * 7 >> 3)
	}
	var small []partd.Entry
	for i := range 20_000 {
		small = append(small, partd.Entry{Key: fmt.Sprint("k", i), Value: value[i : i+50]})
	}
	must(t, c.Append(ctx, append(small, partd.Entry{Key: "large", Value: value})...))
	must(t, c.Set(ctx, "set", value))
	for range 3 {
		if err := c.Append(ctx, one("x", "1"), partd.Entry{Key: "large", Value: make([]byte, 6<<20)}); !errors.Is(err, partd.ErrTooLarge) {
			t.Errorf("an append larger than the server's memory: %v", err)
		}
	}
	must(t, c.Append(ctx, one("large", "end")))
	v, err := c.Get(ctx, "k0", "large", "k19999", "set", "x")
	must(t, err)
	if !bytes.Equal(v[0], value[:50]) || !bytes.Equal(v[1], append(bytes.Clone(value), "end"...)) ||
		!bytes.Equal(v[2], value[19999:20049]) || !bytes.Equal(v[3], value) || len(v[4]) > 0 {
		t.Error("the values are not what was appended")
	}
	must(t, c.Close())
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		s.budget.mu.Lock()
		used := s.budget.used
		s.budget.mu.Unlock()
		if used == 0 {
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("%d bytes of the budget were not given back", used)
		}
	}
}

// TestLargeValues reads values of many pages, from stores that stream and from
// one that does not.
func TestLargeValues(t *testing.T) {
	ctx := context.Background()
	value := make([]byte, 2*defaultPage+12345)
	for i := range value {
		value[i] = byte(i >> 4)
	}
	for _, name := range []string{"dict", "file"} {
		t.Run(name, func(t *testing.T) {
			_, url := serve(t, stores[name](t), nil)
			c := dial(t, url, nil)
			must(t, c.Append(ctx, partd.Entry{Key: "large", Value: value}, one("small", "s")))
			v, err := c.Get(ctx, "small", "large", "none", "large", "small")
			must(t, err)
			if string(v[0]) != "s" || !bytes.Equal(v[1], value) || len(v[2]) > 0 || !bytes.Equal(v[3], value) || string(v[4]) != "s" {
				t.Error("get: the values are not what was appended")
			}
			r, err := c.Open(ctx, "large")
			must(t, err)
			got, err := io.ReadAll(r)
			if must(t, err); !bytes.Equal(got, value) {
				t.Error("open: the value is not what was appended")
			}
			must(t, r.Close())
			// Readers that are left open, and those that are closed early, end.
			for i := range mostHandles + 6 {
				r, err := c.Open(ctx, "large")
				if err != nil {
					t.Fatalf("reader %d: %v", i, err)
				}
				must(t, r.Close())
			}
			var open []io.Closer
			for err = nil; err == nil && len(open) <= mostHandles; {
				var r io.ReadCloser
				if r, err = c.Open(ctx, "large"); err == nil {
					open = append(open, r)
				}
			}
			if !errors.Is(err, ErrBusy) {
				t.Errorf("after %d readers: %v", len(open), err)
			}
			for _, r := range open {
				must(t, r.Close())
			}
			v, err = c.Pop(ctx, "large", "none", "small")
			if must(t, err); !bytes.Equal(v[0], value) || len(v[1]) > 0 || string(v[2]) != "s" {
				t.Error("pop: the values are not what was appended")
			}
			if v, err = c.Get(ctx, "large"); err != nil || len(v[0]) > 0 {
				t.Errorf("after pop: %d bytes, %v", len(v[0]), err)
			}
		})
	}
}

// TestLongListings lists and scans in many pages, and leaves some early.
func TestLongListings(t *testing.T) {
	ctx := context.Background()
	store := partd.NewDict()
	want := map[string]int{}
	long := strings.Repeat("k", 60_000)
	for i := range 300 {
		key := fmt.Sprint(i, long)
		want[key] = i + 1
		must(t, store.Append(ctx, partd.Entry{Key: key, Value: make([]byte, i+1)}))
	}
	_, url := serve(t, store, nil)
	c := dial(t, url, nil)
	keys := map[string]int{}
	for k, err := range c.Keys(ctx) {
		must(t, err)
		keys[k.Key] = int(k.Size)
	}
	scanned := map[string]int{}
	for k, err := range c.Scan(ctx) {
		must(t, err)
		scanned[k.Key] += len(k.Data)
	}
	for key, n := range want {
		if keys[key] != n || scanned[key] != n {
			t.Fatalf("key %s has %d bytes in Keys and %d in Scan, want %d", partd.QuoteKey(key), keys[key], scanned[key], n)
		}
	}
	if len(keys) != len(want) || len(scanned) != len(want) {
		t.Errorf("%d keys and %d scanned, want %d", len(keys), len(scanned), len(want))
	}
	for range mostHandles + 6 {
		for _, err := range c.Keys(ctx) {
			must(t, err)
			break
		}
	}
	// A connection that breaks ends a listing with an error, and nothing else.
	p := newProxy(t, url, never)
	broken := dial(t, p.url(), nil)
	n := 0
	var last error
	for _, err := range broken.Keys(ctx) {
		if n++; n == 1 {
			p.cut()
		}
		last = err
	}
	if !errors.Is(last, ErrLost) || n == len(want) {
		t.Errorf("a listing over a broken connection ended after %d keys with %v", n, last)
	}
	if _, err := broken.Stat(ctx); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// TestNoServer bounds how long a client goes on connecting.
func TestNoServer(t *testing.T) {
	ctx := context.Background()
	s, err := NewServer(partd.NewDict(), nil)
	must(t, err)
	l, err := Listen("tcp://127.0.0.1:0")
	must(t, err)
	go s.Serve(ctx, l)
	c := dial(t, URL(l.Addr()), &ClientOptions{RetryFor: 200 * time.Millisecond})
	must(t, c.Append(ctx, one("k", "v")))
	must(t, s.Shutdown(ctx))
	for range 2 {
		begin := time.Now()
		if _, err := c.Get(ctx, "k"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("get without a server: %v", err)
		}
		if d := time.Since(begin); d < 100*time.Millisecond || d > 10*time.Second {
			t.Errorf("it took %v", d)
		}
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := c.Append(short, one("k", "v")); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("append without a server, which sends nothing: %v", err)
	}
	if _, err := Dial(ctx, URL(l.Addr()), nil); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial without a server: %v", err)
	}
}

// TestShutdown finishes what is in flight.
func TestShutdown(t *testing.T) {
	ctx := context.Background()
	inner := partd.NewDict()
	store := &faulty{Partd: inner, wait: make(chan struct{})}
	s, err := NewServer(store, nil)
	must(t, err)
	l, err := Listen("tcp://127.0.0.1:0")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	c := dial(t, URL(l.Addr()), nil)
	appended := make(chan error, 1)
	go func() { appended <- c.Append(ctx, one("k", "v")) }()
	time.Sleep(50 * time.Millisecond)
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(ctx) }()
	select {
	case <-ended:
		t.Error("Shutdown does not wait for what is in flight")
	case <-time.After(50 * time.Millisecond):
	}
	close(store.wait)
	must(t, <-appended)
	must(t, <-ended)
	must(t, <-served)
	must(t, s.Shutdown(ctx))
	if err := s.Serve(ctx, l); !errors.Is(err, partd.ErrClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
	if v, err := inner.Get(ctx, "k"); err != nil || string(v[0]) != "v" {
		t.Errorf("the store has %q, %v", v, err)
	}
}

// TestShutdownIsBounded by its context, where the store hangs.
func TestShutdownIsBounded(t *testing.T) {
	store := &faulty{Partd: partd.NewDict(), wait: make(chan struct{})}
	s, err := NewServer(store, nil)
	must(t, err)
	l, err := Listen("tcp://127.0.0.1:0")
	must(t, err)
	go s.Serve(context.Background(), l)
	c := dial(t, URL(l.Addr()), &ClientOptions{RetryFor: time.Millisecond})
	appended := make(chan error, 1)
	go func() { appended <- c.Append(context.Background(), one("k", "v")) }()
	time.Sleep(50 * time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("it took %v", d)
	}
	if err := <-appended; !errors.Is(err, partd.ErrUnknownOutcome) {
		t.Errorf("an append that was cut short: %v", err)
	}
}

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

// TestManySmallThings sends requests that would take many times the memory once
// they are read. They are refused, and change nothing.
func TestManySmallThings(t *testing.T) {
	ctx := context.Background()
	store := partd.NewDict()
	s, url := serve(t, store, &ServerOptions{Memory: 4 << 20, MaxMessage: 1 << 20})
	c := dial(t, url, nil)
	for op, least := range map[operation]int{opGet: 2, opDelete: 2, opAppend: entryHeaderLen} {
		k := newCall(op)
		n := 900_000 / least
		k.u32(uint32(n))
		k.refer(make([]byte, n*least))
		if err := c.do(ctx, k); !errors.Is(err, partd.ErrTooLarge) {
			t.Errorf("%s of %d empty things: %v", op, n, err)
		}
	}
	must(t, c.Append(ctx, one("k", "v")))
	must(t, c.Close())
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	if s.budget.used > 3<<20 {
		t.Errorf("%d bytes of the budget are in use", s.budget.used)
	}
}

// TestHeartbeats are no part of a message, however many there are.
func TestHeartbeats(t *testing.T) {
	_, url := serve(t, partd.NewDict(), &ServerOptions{MaxMessage: minMessage, StallTimeout: time.Second})
	p := openPeer(t, url)
	ping := zmtp.AppendCommand(nil, "PING", []byte{0, 0})
	pong := zmtp.AppendCommand(nil, "PONG", nil)
	for range 100 {
		p.send(bytes.Repeat(ping, 1000))
		p.want(bytes.Repeat(pong, 1000))
	}
	p.send(message("syn"))
	p.want(acked)
}
