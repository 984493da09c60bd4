package zmq4

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zeromq/zmq4"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/remote"
)

// relay is a zmq4 ROUTER that forwards the requests of each peer to our server through a zmq4 DEALER.
type relay struct {
	t              testing.TB
	url, serverURL string // URLs of the relay and of our server

	mu             sync.Mutex
	router         zmq4.Socket
	dealers        map[string]zmq4.Socket
	seenOperations [256]atomic.Bool // indexed by operation
}

func newRelay(t testing.TB, url, serverURL string) *relay {
	t.Helper()
	r := &relay{t: t, url: url, serverURL: serverURL}
	r.listen()
	t.Cleanup(r.close)
	return r
}

// listen starts to listen. Later calls listen at the address of the first call.
func (r *relay) listen() {
	r.t.Helper()
	router := zmq4.NewRouter(context.Background(), quietOptions...)
	must(r.t, router.Listen(r.url))
	if strings.HasPrefix(r.url, "tcp://") {
		r.url = "tcp://" + router.Addr().String()
	}
	r.mu.Lock()
	r.router, r.dealers = router, map[string]zmq4.Socket{}
	r.mu.Unlock()
	go func() {
		for {
			m, err := router.Recv()
			if err != nil {
				return // the ROUTER was closed
			}
			if len(m.Frames) == 2 && len(m.Frames[1]) > 4 {
				r.seenOperations[m.Frames[1][4]].Store(true)
			}
			if dealer := r.dealer(router, m.Frames[0]); dealer != nil {
				_ = dealer.Send(zmq4.NewMsgFrom(m.Frames[1:]...)) // if this fails, the peer sends its request again
			}
		}
	}()
}

// dealer returns the DEALER of a peer, and forwards its answers to the peer.
func (r *relay) dealer(router zmq4.Socket, id []byte) zmq4.Socket {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.router != router {
		return nil
	}
	dealer := r.dealers[string(id)]
	if dealer == nil {
		dealer = zmq4.NewDealer(context.Background(), quietOptions...)
		if err := dealer.Dial(r.serverURL); err != nil {
			r.t.Errorf("zmq4 cannot connect to the server at %s: %v", r.serverURL, err)
			return nil
		}
		r.dealers[string(id)] = dealer
		go func() {
			for {
				m, err := dealer.Recv()
				if err != nil {
					return
				}
				_ = router.Send(zmq4.NewMsgFrom(append([][]byte{id}, m.Frames...)...))
			}
		}()
	}
	return dealer
}

// close closes all connections and stops listening.
func (r *relay) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.router.Close()
	for _, dealer := range r.dealers {
		_ = dealer.Close()
	}
	r.router = nil
}

// TestClientKeepsPromises checks that our client passes the test suite for stores with zmq4
// between the client and our server, and that the suite's operations pass through zmq4.
func TestClientKeepsPromises(t *testing.T) {
	abilities := []partdtest.Ability{
		partdtest.CanSet, partdtest.CanDelete, partdtest.CanPop, partdtest.CanList, partdtest.CanOpen, partdtest.CanScan,
		partdtest.CanStat, partdtest.CanClose,
	}
	for transport, address := range transports {
		t.Run(transport, func(t *testing.T) {
			var relays []*relay
			var mu sync.Mutex
			newClient := func(t *testing.T) partd.Partd {
				r := newRelay(t, address(t), serve(t, partd.NewDict(), address(t)))
				mu.Lock()
				relays = append(relays, r)
				mu.Unlock()
				return dialClient(t, r.url)
			}
			partdtest.Run(t, newClient, &partdtest.Options{Require: abilities, MachineRuns: 3, Pieces: 60, LargeValue: 5 << 20})
			// TestClient covers the other operations: large changes, verify, sync and namespaces.
			for _, op := range []byte{1, 3, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16, 17, 20} {
				seen := false
				for _, r := range relays {
					seen = seen || r.seenOperations[op].Load()
				}
				if !seen {
					t.Errorf("the relay did not see operation %d", op)
				}
			}
		})
	}
}

func dialClient(t testing.TB, url string) *remote.Client {
	t.Helper()
	c, err := remote.Dial(t.Context(), url, nil)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestClient checks requests that the test suite does not send: large values in one message and in
// parts, many keys, and the optional operations of a log store.
func TestClient(t *testing.T) {
	large := randomBytes(64 << 20)
	for transport, address := range transports {
		t.Run(transport, func(t *testing.T) {
			r := newRelay(t, address(t), serve(t, openLog(t), address(t)))
			c, ctx := dialClient(t, r.url), t.Context()
			must(t, c.Append(ctx, partd.Entry{Key: "large", Value: large}, partd.Entry{Key: "s", Value: []byte("s")}))
			var more []partd.Entry
			for range 5 { // 320 MiB, more than the limit of a message
				more = append(more, partd.Entry{Key: "larger", Value: large})
			}
			must(t, c.Append(ctx, more...))
			values, err := c.Get(ctx, "s", "large", "none", "larger")
			must(t, err)
			if string(values[0]) != "s" || !bytes.Equal(values[1], large) || len(values[2]) > 0 || !bytes.Equal(values[3], bytes.Repeat(large, 5)) {
				t.Errorf("Get() returned %d, %d, %d and %d bytes, want the appended values of 1, 64 Mi, 0 and 320 Mi bytes", len(values[0]), len(values[1]), len(values[2]), len(values[3]))
			}
			batch := make([]partd.Entry, 50_000)
			for i := range batch {
				batch[i] = partd.Entry{Key: fmt.Sprintf("key %0100d", i), Value: []byte{byte(i)}}
			}
			must(t, c.Append(ctx, batch...))
			n := 0
			for _, err := range c.Keys(ctx) {
				must(t, err)
				n++
			}
			if n != 50_003 {
				t.Errorf("Keys() yields %d keys, want 50,003", n)
			}
			popped, err := c.Pop(ctx, "large")
			must(t, err)
			if !bytes.Equal(popped[0], large) {
				t.Errorf("Pop() returned %d bytes, want the appended %d bytes", len(popped[0]), len(large))
			}
			must(t, c.Flush(ctx))
			must(t, c.Sync(ctx))
			_, err = c.Check(ctx)
			must(t, err)
			_, err = c.Namespaces(ctx)
			wantErrorIs(t, err, errors.ErrUnsupported)
			must(t, c.Drop(ctx))
			must(t, c.Close())
			for _, op := range []byte{4, 11, 12, 18, 21, 22, 23, 24, 26} {
				if !r.seenOperations[op].Load() {
					t.Errorf("the relay did not see operation %d", op)
				}
			}
		})
	}
}

// TestDisconnects checks that no append is lost or applied twice while zmq4's ROUTER disconnects and returns.
func TestDisconnects(t *testing.T) {
	for transport, address := range transports {
		t.Run(transport, func(t *testing.T) {
			store := openLog(t)
			r := newRelay(t, address(t), serve(t, store, address(t)))
			const writers, appends = 4, 3000
			var wait sync.WaitGroup
			for w := range writers {
				c := dialClient(t, r.url)
				wait.Go(func() {
					for i := range appends {
						if err := c.Append(t.Context(), partd.Entry{Key: fmt.Sprint(w), Value: fmt.Appendf(nil, "%d,", i)}); err != nil {
							t.Errorf("writer %d, append %d: %v", w, i, err)
							return
						}
					}
				})
			}
			done := make(chan struct{})
			go func() { wait.Wait(); close(done) }()
			cuts := 0
			for ; ; cuts++ {
				select {
				case <-done:
				case <-time.After(10 * time.Millisecond):
					r.close()
					r.listen()
					continue
				}
				break
			}
			var want strings.Builder
			for i := range appends {
				fmt.Fprintf(&want, "%d,", i)
			}
			for w := range writers {
				v, err := store.Get(t.Context(), fmt.Sprint(w))
				must(t, err)
				if string(v[0]) != want.String() {
					t.Errorf("after %d disconnects, the value of writer %d is wrong: %d bytes, want %d", cuts, w, len(v[0]), want.Len())
				}
			}
			if cuts < 5 {
				t.Errorf("the relay disconnected %d times, want at least 5", cuts)
			}
		})
	}
}

// TestDealerLeaves checks that if zmq4 DEALERs disconnect while they send and receive, the server
// still serves others and applies no incomplete requests.
func TestDealerLeaves(t *testing.T) {
	value := string(randomBytes(8 << 20))
	for transport, address := range transports {
		t.Run(transport, func(t *testing.T) {
			store := openLog(t)
			url := serve(t, store, address(t))
			must(t, store.Append(t.Context(), partd.Entry{Key: "k", Value: []byte(value)}))
			for i := range 20 {
				d := dial(t, url)
				go func() { // sending fails if the connection is closed first
					for range 4 {
						_ = d.Send(zmq4.NewMsgFrom(frames("append", "half", value)...))
						_ = d.Send(zmq4.NewMsgFrom(frames("get", "k", "k")...))
					}
				}()
				time.Sleep(time.Duration(i) * time.Millisecond)
				_ = d.Close() // fails if the connection has already ended
			}
			d := dial(t, url)
			d.requestPython(frames("get", "k"), false)
			d.wantMessage(frames(value))
			d.wantMessage(frames("ack"))
			v, err := store.Get(t.Context(), "half")
			must(t, err)
			if n := len(v[0]) / len(value); !bytes.Equal(v[0], []byte(strings.Repeat(value, n))) {
				t.Errorf("the value has %d bytes, want a multiple of %d complete bytes", len(v[0]), len(value))
			}
		})
	}
}
