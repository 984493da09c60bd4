package remote

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/zmtp"
)

// Server gives many processes the use of one store. Make it with [NewServer].
type Server struct {
	store    partd.Partd
	opts     ServerOptions
	instance uint64        // of this server's life
	partTime time.Duration // that a part may take beside the time to stall
	budget   budget
	sessions sessions
	pops     pops

	// base is what changes run under: a client that leaves does not cut one
	// short, only the end of Shutdown does.
	base   context.Context
	cancel context.CancelFunc

	closeOnce      sync.Once
	closeRequested chan struct{}

	mu         sync.Mutex
	closing    bool
	done       chan struct{} // closed when Shutdown begins
	listeners  map[net.Listener]struct{}
	conns      map[*conn]struct{}
	greeting   []*conn // those whose handshake is under way, the oldest first
	lastID     atomic.Uint64
	running    sync.WaitGroup // of connections
	inShutdown sync.Once
	shutdown   error
}

// NewServer makes a server of a store, which it owns from then on: Shutdown
// closes it.
func NewServer(store partd.Partd, opts *ServerOptions) (*Server, error) {
	if store == nil {
		return nil, errors.New("remote: a server needs a store")
	}
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		store: store, opts: o, partTime: partLen / zmtp.MinRate * time.Second,
		budget:         budget{limit: o.Memory, patient: o.StallTimeout},
		closeRequested: make(chan struct{}), done: make(chan struct{}),
		listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{},
	}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("remote: %w", err)
	}
	s.instance = binary.LittleEndian.Uint64(id[:])
	s.sessions.init(store, uint32(s.instance>>32))
	s.pops.init(o.Memory / 4)
	s.base, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// CloseRequested returns a channel that is closed once a client that may do so
// has asked for the server's end. Nothing else comes of it: who runs the server
// calls Shutdown.
func (s *Server) CloseRequested() <-chan struct{} { return s.closeRequested }

func (s *Server) requestClose() { s.closeOnce.Do(func() { close(s.closeRequested) }) }

// Serve accepts connections until ctx ends or Shutdown is called, and closes the
// listener. It returns nil then; connections that there are go on until Shutdown.
// It may be called for several listeners.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if !s.addListener(l) {
		return errors.Join(&partd.Error{Op: "serve", Path: URL(l.Addr()), Err: partd.ErrClosed}, l.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // Accept says so
	defer stop()
	defer s.removeListener(l)
	wait := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err == nil {
			wait = 0
			s.admit(nc)
			continue
		}
		if ctx.Err() != nil || s.isClosing() {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return &partd.Error{Op: "accept", Path: URL(l.Addr()), Err: err}
		}
		// Out of descriptors, most likely: those who are connected go on.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		s.opts.Logger.Warn("cannot accept a connection", "address", URL(l.Addr()), "error", err, "retry", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		case <-s.done:
		}
	}
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) removeListener(l net.Listener) {
	s.mu.Lock()
	delete(s.listeners, l)
	s.mu.Unlock()
	_ = l.Close() // often the second time
}

func (s *Server) isClosing() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// admit starts a connection. Peers who say nothing keep nobody out for long: where
// there are too many connections, the oldest that has not sent a message in the
// time for a handshake makes room, and only a quarter of all may be in theirs.
func (s *Server) admit(nc net.Conn) {
	s.mu.Lock()
	var silent *conn
	full := len(s.conns) >= s.opts.MaxConnections
	if full {
		silent = s.oldestSilent()
	}
	if s.closing || full && silent == nil {
		n := len(s.conns)
		s.mu.Unlock()
		s.opts.Logger.Warn("connection refused: there are too many", "peer", peerName(nc), "connections", n)
		_ = nc.Close() // nothing was sent
		return
	}
	if !full && len(s.greeting) >= max(4, s.opts.MaxConnections/4) {
		silent = s.greeting[0]
	}
	if silent != nil {
		delete(s.conns, silent)
		s.removeGreeting(silent)
	}
	c := newConn(s, nc, s.lastID.Add(1), fullRights(s.opts.AllowClose))
	s.conns[c] = struct{}{}
	s.greeting = append(s.greeting, c)
	s.running.Add(1)
	s.mu.Unlock()
	if silent != nil {
		s.opts.Logger.Warn("connection closed: others need its place, and it has said nothing", "peer", peerName(silent.nc))
		silent.abort()
	}
	go func() {
		defer s.running.Done()
		c.run()
	}()
}

// oldestSilent returns the oldest connection that should have sent a message by
// now and has not, nil if there is none. mu is held.
func (s *Server) oldestSilent() *conn {
	var oldest *conn
	for c := range s.conns {
		if !c.spoke.Load() && time.Since(c.since) > s.opts.HandshakeTimeout && (oldest == nil || c.id < oldest.id) {
			oldest = c
		}
	}
	return oldest
}

// greeted takes a connection from those in their handshake.
func (s *Server) greeted(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeGreeting(c)
}

func (s *Server) removeGreeting(c *conn) {
	s.greeting = slices.DeleteFunc(s.greeting, func(g *conn) bool { return g == c })
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Shutdown stops accepting, finishes the requests that have arrived, closes the
// connections, and flushes, syncs and closes the store. If ctx ends first,
// requests are cut short; the store is closed all the same. Called again it
// returns what it returned first.
func (s *Server) Shutdown(ctx context.Context) error {
	s.inShutdown.Do(func() { s.shutdown = s.shutDown(ctx) })
	return s.shutdown
}

func (s *Server) shutDown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	close(s.done)
	for l := range s.listeners {
		_ = l.Close() // Serve returns
	}
	for c := range s.conns {
		c.wake()
	}
	for _, c := range s.greeting { // nothing of theirs has been answered
		c.abort()
	}
	s.mu.Unlock()

	finished := make(chan struct{})
	go func() {
		s.running.Wait()
		close(finished)
	}()
	var errs []error
	select {
	case <-finished:
	case <-ctx.Done():
		errs = append(errs, fmt.Errorf("remote: shutdown: requests were cut short: %w", context.Cause(ctx)))
		s.cancel()
		s.mu.Lock()
		for c := range s.conns {
			c.abort()
		}
		s.mu.Unlock()
		<-finished
	}
	s.cancel()
	s.pops.close()
	errs = append(errs, closeStore(context.WithoutCancel(ctx), s.store))
	return errors.Join(errs...)
}

// closeStore flushes, syncs and closes a store, as far as it can.
func closeStore(ctx context.Context, store partd.Partd) error {
	var errs []error
	for _, step := range []func() error{
		func() error { return partd.Flush(ctx, store) },
		func() error { return partd.Sync(ctx, store) },
		func() error { return partd.Close(ctx, store) },
	} {
		if err := step(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
