package remote

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
)

// minCuts returns the number of connections to cut: PARTD_CUTS, or fallback if that is not set.
func minCuts(t *testing.T, fallback int64) int64 {
	if s := os.Getenv("PARTD_CUTS"); s != "" {
		return must.Get(strconv.ParseInt(s, 10, 64))(t)
	}
	return fallback
}

// kill ends a server as if its process had died, and leaves its store open.
func (s *Server) kill() {
	s.mu.Lock()
	s.closing = true
	close(s.done)
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		c.abort()
	}
	s.mu.Unlock()
	s.running.Wait()
	s.cancel()
	s.pops.close()
}

// restartingServer is a server that is killed and restarted with the same store, behind a proxy.
type restartingServer struct {
	store  partd.Partd
	opts   ServerOptions
	server *Server
	proxy  *nettest.Proxy
}

func startRestarting(t *testing.T, store partd.Partd, limit func() int64) *restartingServer {
	r := &restartingServer{store: store}
	url := r.start(t)
	r.proxy = newProxy(t, url, limit)
	t.Cleanup(func() { must.Do(t, r.server.Shutdown(context.Background())) })
	return r
}

func (r *restartingServer) start(t *testing.T) string {
	s := must.Get(NewServer(r.store, &r.opts))(t)
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	r.server = s
	go s.Serve(context.Background(), l) // returns when the server is killed
	return URL(l.Addr())
}

func (r *restartingServer) restart(t *testing.T) {
	r.server.kill()
	url := r.start(t)
	r.proxy.Redirect(strings.TrimPrefix(url, "tcp://"))
}

// newProxy returns a proxy that cuts connections to a server after limit bytes.
func newProxy(t testing.TB, url string, limit func() int64) *nettest.Proxy {
	t.Helper()
	p := must.Get(nettest.NewProxy("tcp", strings.TrimPrefix(url, "tcp://"), limit))(t)
	t.Cleanup(func() { must.Do(t, p.Close()) })
	return p
}

// afterBytes returns a limit function that cuts each connection after a random number of bytes.
func afterBytes(low, high int64) func() int64 {
	return func() int64 { return low + rand.Int64N(high-low) }
}

// writer appends numbered pieces to a key that all writers share and to its own key, until it is stopped.
type writer struct {
	id             int
	c              *Client
	acked          []bool // whether append i was acknowledged
	popped         []string
	unknown        int // number of changes with an unknown outcome
	unknownAppends int // number of appends with an unknown outcome
}

func (w *writer) run(stop func() bool) error {
	for i := 0; !stop(); i++ {
		piece := fmt.Sprintf("%d:%d,", w.id, i)
		entries := []partd.Entry{{Key: "all", Value: []byte(piece)}, {Key: "writer" + strconv.Itoa(w.id), Value: []byte(piece)}}
		if i%64 == 0 {
			entries = append(entries, partd.Entry{Key: "fill", Value: make([]byte, 20_000)})
		}
		err := w.c.Append(ctx, entries...)
		if err != nil && !errors.Is(err, partd.ErrUnknownOutcome) {
			return fmt.Errorf("append %s: %w", piece, err)
		}
		if err != nil {
			w.unknown++
			w.unknownAppends++
		}
		w.acked = append(w.acked, err == nil)
		if i%64 == 63 {
			if err := w.c.Delete(ctx, "fill"); err != nil && !errors.Is(err, partd.ErrUnknownOutcome) {
				return err
			}
		}
		if i%10 == 9 {
			v, err := w.c.Pop(ctx, "writer"+strconv.Itoa(w.id))
			if err != nil && !errors.Is(err, partd.ErrUnknownOutcome) {
				return fmt.Errorf("pop: %w", err)
			}
			if err != nil {
				w.unknown++
				w.popped = append(w.popped, "?")
			} else {
				w.popped = append(w.popped, string(v[0]))
			}
		}
	}
	return nil
}

// check compares the acknowledged appends and pops with shared, the value of the shared key, and with remaining, the
// part of the value of the writer's own key that has not been popped.
func (w *writer) check(shared, remaining string) error {
	counts := map[string]int{}
	last := -1
	for _, p := range strings.Split(strings.TrimSuffix(shared, ","), ",") {
		number, isOwn := strings.CutPrefix(p, strconv.Itoa(w.id)+":")
		if !isOwn {
			continue
		}
		n, err := strconv.Atoi(number)
		if err != nil {
			return fmt.Errorf("the shared key has a torn piece %q", p)
		}
		counts[number]++
		if n <= last {
			return fmt.Errorf("writer %d: piece %d comes after %d", w.id, n, last)
		}
		last = n
	}
	var want strings.Builder
	for i, acked := range w.acked {
		switch n := counts[strconv.Itoa(i)]; {
		case n > 1, acked && n != 1:
			return fmt.Errorf("writer %d: append %d, acknowledged %v, is in the store %d times", w.id, i, acked, n)
		case n == 1:
			fmt.Fprintf(&want, "%d:%d,", w.id, i)
		}
	}
	if w.unknown == 0 {
		if got := strings.Join(w.popped, "") + remaining; got != want.String() {
			return fmt.Errorf("writer %d: %d bytes were popped or remain in the store, want %d", w.id, len(got), want.Len())
		}
	}
	return nil
}

// writeThrough runs writers through a proxy until the proxy has cut enough connections. If restartEvery
// is positive, writeThrough also restarts the server at this interval. It returns an error if the store's
// content is wrong.
func writeThrough(t *testing.T, r *restartingServer, cuts int64, restartEvery time.Duration) (unknown, unknownAppends int, err error) {
	const writers = 4
	deadline := time.Now().Add(time.Duration(cuts)*20*time.Millisecond + 20*time.Second)
	stop := func() bool { return r.proxy.Cuts() >= cuts || time.Now().After(deadline) }
	var writerList []*writer
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		w := &writer{id: i, c: dialRepeatedly(t, r.proxy.URL())}
		writerList = append(writerList, w)
		wg.Go(func() { errs[i] = w.run(stop) })
	}
	var running atomic.Bool
	running.Store(true)
	restartsDone := make(chan struct{})
	go func() {
		defer close(restartsDone)
		for restartEvery > 0 && running.Load() {
			time.Sleep(restartEvery)
			r.restart(t)
		}
	}()
	wg.Wait()
	running.Store(false)
	<-restartsDone
	if err := errors.Join(errs...); err != nil {
		return 0, 0, err
	}
	// On a slow machine, a server that is restarted often ends connections before the proxy does.
	if n := r.proxy.Cuts(); n < cuts && restartEvery == 0 {
		t.Errorf("%d connections were cut, want at least %d", n, cuts)
	}
	for _, w := range writerList {
		values := must.Get(r.store.Get(context.Background(), "all", "writer"+strconv.Itoa(w.id)))(t)
		if err := w.check(string(values[0]), string(values[1])); err != nil {
			return 0, 0, err
		}
		unknown += w.unknown
		unknownAppends += w.unknownAppends
	}
	return unknown, unknownAppends, nil
}

// TestResendOverLimit checks the outcome of a change that a new server process with a lower limit
// cannot receive. The client then continues with a new session.
func TestResendOverLimit(t *testing.T) {
	_, c := serveClient(t, partd.NewDict(), nil)
	must.Do(t, c.Append(ctx, entry("k", "1")))
	req := must.Get(newChange(opAppend, []partd.Entry{{Key: "k", Value: make([]byte, minMessage)}}, nil))(t)
	req.isNumbered = true
	l := must.Get(c.acquireLink(ctx))(t)
	must.Get(c.assignNumbers(ctx, l, req))(t)
	limit := l.maxMessage
	l.maxMessage = minMessage
	must.Do(t, c.resend(l, req))
	l.maxMessage = limit
	<-l.writeToken
	if err := c.wait(ctx, req); !errors.Is(err, partd.ErrUnknownOutcome) || !errors.Is(err, partd.ErrTooLarge) {
		t.Errorf("a resent change over the limit = %v, want ErrUnknownOutcome and ErrTooLarge", err)
	}
	must.Do(t, c.Append(ctx, entry("k", "2")))
	wantValue(t, c, "k", "12")
}

// dialRepeatedly dials through a proxy that may cut the first connections.
func dialRepeatedly(t testing.TB, url string) *Client {
	t.Helper()
	for range 100 {
		c, err := Dial(context.Background(), url, nil)
		if err == nil {
			t.Cleanup(func() { must.Do(t, c.Close()) })
			return c
		}
	}
	t.Fatal("cannot connect through the proxy: 100 attempts failed")
	return nil
}

// TestCutConnections cuts the connections of four writers at random bytes. Each change must be
// applied once and in order, both with stores that remember the operations' numbers and with stores
// for which the server remembers them.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRestarting(t, open(t), afterBytes(200, 30_000))
			unknown, _, err := writeThrough(t, r, minCuts(t, 100), 0)
			must.Do(t, err)
			if unknown > 0 {
				t.Errorf("%d outcomes are unknown although the server was not restarted", unknown)
			}
		})
	}
}

// TestRestartedServer cuts connections and also kills the server. If the store remembers the
// operations' numbers, no append may have an unknown outcome.
func TestRestartedServer(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRestarting(t, open(t), afterBytes(500, 200_000))
			unknown, unknownAppends, err := writeThrough(t, r, minCuts(t, 20), 30*time.Millisecond)
			must.Do(t, err)
			if _, canApply := r.store.(partd.Applier); canApply && unknownAppends > 0 {
				t.Errorf("the outcomes of %d appends are unknown although the store keeps their numbers", unknownAppends)
			}
			t.Logf("%d outcomes unknown, %d of them of appends", unknown, unknownAppends)
		})
	}
}
