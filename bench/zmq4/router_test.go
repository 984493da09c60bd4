package zmq4

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/go-zeromq/zmq4"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/partdtest"
	"github.com/go-partd/partd/remote"
)

// relay is a zmq4 ROUTER that forwards the requests of each peer to our server through a zmq4 DEALER.
type relay struct {
	t         testing.TB
	serverURL string
	router    zmq4.Socket

	mu      sync.Mutex
	dealers map[string]zmq4.Socket
}

// startRelay starts a relay in front of our server, and returns the relay's URL.
func startRelay(t testing.TB, url, serverURL string) string {
	t.Helper()
	r := &relay{t: t, serverURL: serverURL, router: zmq4.NewRouter(context.Background(), quietOptions...), dealers: map[string]zmq4.Socket{}}
	must.Do(t, r.router.Listen(url))
	t.Cleanup(r.close)
	go func() {
		for {
			m, err := r.router.Recv()
			if err != nil {
				return // the ROUTER was closed
			}
			if dealer := r.dealer(m.Frames[0]); dealer != nil {
				_ = dealer.Send(zmq4.NewMsgFrom(m.Frames[1:]...)) // if this fails, the peer sends its request again
			}
		}
	}()
	if strings.HasPrefix(url, "tcp://") {
		return "tcp://" + r.router.Addr().String()
	}
	return url
}

// dealer returns the DEALER of a peer, and forwards its answers to the peer.
func (r *relay) dealer(id []byte) zmq4.Socket {
	r.mu.Lock()
	defer r.mu.Unlock()
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
				_ = r.router.Send(zmq4.NewMsgFrom(append([][]byte{id}, m.Frames...)...))
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
}

// TestClientKeepsPromises checks that our client passes the test suite for stores with zmq4
// between the client and our server.
func TestClientKeepsPromises(t *testing.T) {
	abilities := []partdtest.Ability{
		partdtest.CanSet, partdtest.CanDelete, partdtest.CanPop, partdtest.CanList, partdtest.CanOpen, partdtest.CanScan,
		partdtest.CanStat, partdtest.CanClose,
	}
	for transport, address := range transports {
		t.Run(transport, func(t *testing.T) {
			newClient := func(t *testing.T) partd.Partd {
				c := must.Get(remote.Dial(t.Context(), startRelay(t, address(t), serve(t, partd.NewDict(), address(t))), nil))(t)
				t.Cleanup(func() { _ = c.Close() })
				return c
			}
			partdtest.Run(t, newClient, &partdtest.Options{Require: abilities, MachineRuns: 1, Pieces: 20, LargeValue: 5 << 20})
		})
	}
}
