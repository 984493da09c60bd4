package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/server/audit"
	"github.com/go-partd/partd/internal/server/ratelimit"
)

// Server serves one store to many processes. Use [NewServer].
type Server struct {
	*space    // the default namespace
	spaces    spaces
	opts      ServerOptions
	instance  uint64 // identifies this server process
	budget    budget
	handles   handleTable
	manyConns atomic.Bool // set while more than turnThreshold connections are open
	checking  semaphore   // held by the one request that may verify checksums
	logins    ratelimit.Logins
	recorder  audit.Recorder
	meters    meters

	// changeCtx is the context for changes. Only Shutdown cancels it, so a client that disconnects
	// does not interrupt its changes.
	changeCtx context.Context
	cancel    context.CancelFunc

	closeOnce      sync.Once
	closeRequested chan struct{}

	mu           sync.Mutex // locked before quotas.mu
	closing      bool
	done         chan struct{} // closed when Shutdown begins
	listeners    map[net.Listener]struct{}
	conns        map[*conn]struct{}
	handshaking  []*conn // connections during their handshake, oldest first
	lastID       atomic.Uint64
	running      sync.WaitGroup // counts connections
	shutdownOnce sync.Once
	shutdownErr  error
}

// NewServer returns a server for a store. The server owns the store: Shutdown closes it.
func NewServer(store partd.Partd, opts *ServerOptions) (*Server, error) {
	if store == nil {
		return nil, errors.New("remote: a server needs a store")
	}
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts: o, instance: rand.Uint64(), recorder: audit.Recorder{Out: o.Audit},
		checking: make(semaphore, 1), closeRequested: make(chan struct{}), done: make(chan struct{}),
		listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{},
	}
	s.budget.init(&o)
	s.handles = handleTable{budget: &s.budget, maxWait: o.StallTimeout}
	s.budget.reap = s.handles.reap
	if o.Namespaces != nil {
		o.Namespaces.WhenFull(s.handles.endIdle)
	}
	s.spaces.quotas = &s.budget.quotas
	s.spaces.incarnation = uint32(s.instance >> 32)
	s.spaces.namespaces = o.Namespaces
	s.spaces.named = map[string]*space{}
	s.space = s.spaces.newSpace("", store, o.SpaceLimit)
	s.spaces.defaultSpace = s.space
	s.changeCtx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// CloseRequested returns a channel that is closed when an authorized client asks the server to stop.
// The program should then call Shutdown.
func (s *Server) CloseRequested() <-chan struct{} { return s.closeRequested }

// Serve accepts connections on l until ctx is done or Shutdown is called. It then closes l and
// returns nil. If Shutdown was already called, Serve returns at once. Open connections are served
// until Shutdown. Serve may be called for several listeners.
func (s *Server) Serve(ctx context.Context, l net.Listener) error { return s.ServeWith(ctx, l, nil) }

// ServeWith is Serve with options.
func (s *Server) ServeWith(ctx context.Context, l net.Listener, opts *ServeOptions) error {
	o := *cmp.Or(opts, new(ServeOptions))
	if s.changeCtx == nil || l == nil {
		return &partd.Error{Op: "serve", Err: errors.New("Serve needs a server from NewServer and a listener")}
	}
	s.mu.Lock()
	closing := s.closing
	if !closing {
		s.listeners[l] = struct{}{}
	}
	s.mu.Unlock()
	if closing {
		return l.Close()
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // makes Accept return an error
	defer stop()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
		_ = l.Close() // ignore the error, because the listener is usually closed already
	}()
	wait := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err == nil {
			wait = 0
			s.admit(nc, o)
			continue
		}
		if ctx.Err() != nil || s.isClosing() {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return &partd.Error{Op: "accept", Path: URL(l.Addr()), Err: err}
		}
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			s.evictOne()
		}
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		s.opts.Logger.Warn("cannot accept a connection", "address", URL(l.Addr()), "error", err, "retry", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		case <-s.done:
		}
	}
}

func (s *Server) isClosing() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Shutdown stops accepting connections, flushes the store, finishes the requests that have arrived
// and closes the connections. It then flushes, syncs and closes the store. Peers that have not
// received their answers within DrainTimeout are disconnected. If ctx ends first, Shutdown
// interrupts requests and returns an error, but still closes the store. Later calls return the
// result of the first call.
func (s *Server) Shutdown(ctx context.Context) error {
	s.shutdownOnce.Do(func() { s.shutdownErr = s.shutDown(ctx) })
	return s.shutdownErr
}

func (s *Server) shutDown(ctx context.Context) error {
	if s.changeCtx == nil {
		return nil // s is not from NewServer
	}
	s.mu.Lock()
	s.closing = true
	close(s.done)
	for l := range s.listeners {
		_ = l.Close() // Serve returns
	}
	for c := range s.conns {
		// Stop reading. The connection ends once all messages that have arrived are answered.
		_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // fails only if the connection is closed
	}
	for _, c := range s.handshaking {
		c.abort()
	}
	s.mu.Unlock()

	finished := make(chan struct{})
	go func() {
		s.running.Wait()
		close(finished)
	}()
	// Flush acknowledged changes first, so that they survive if the process is killed
	// while peers delay the shutdown.
	if err := partd.Flush(ctx, s.store); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		s.opts.Logger.Warn("cannot flush the store: the server will try again before closing it", "error", err)
	}
	var errs []error
	select {
	case <-finished:
	case <-time.After(s.opts.DrainTimeout):
		s.cutOff("connection cut off: its requests were not answered within DrainTimeout")
	case <-ctx.Done():
		errs = append(errs, fmt.Errorf("remote: shutdown: requests were interrupted: %w", canceled.Err(ctx)))
		s.cutOff("connection cut off: the context of Shutdown has ended")
	}
	<-finished
	s.cancel()
	errs = append(errs, s.spaces.close(context.WithoutCancel(ctx)), closeStore(context.WithoutCancel(ctx), s.store))
	return errors.Join(errs...)
}

// cutOff ends all connections and interrupts requests in progress.
func (s *Server) cutOff(reason string) {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		s.opts.Logger.Warn(reason, "peer", peerName(c.nc))
		c.abort()
	}
}

// closeStore flushes, syncs and closes a store. It attempts each step even if an earlier step
// failed.
func closeStore(ctx context.Context, store partd.Partd) error {
	var errs []error
	for _, step := range []func(context.Context, partd.Partd) error{partd.Flush, partd.Sync} {
		if err := step(ctx, store); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			errs = append(errs, err)
		}
	}
	if c, ok := store.(io.Closer); ok { // partd.Close would flush again
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// dropGrace is how long open readers may continue after their store was dropped.
const dropGrace = 10 * time.Second

// recordChange handles the outcome of a change. Readers keep deleted files on disk, so it closes
// them some time after a drop or, if the disk is full, at once.
func (s *Server) recordChange(p *space, change partd.Change, err error) {
	if p == s.space && errors.Is(err, partd.ErrNeedsReopen) { // for other namespaces, Namespaces reopens the store
		s.meters.needsReopen.Store(&err)
	}
	switch {
	case err == nil && change == partd.ChangeDrop:
		now := time.Now()
		p.dropped.Store(now.UnixNano())
		time.AfterFunc(dropGrace, func() { s.handles.closeDropped(p, now, dropGrace/2) })
	case errors.Is(err, syscall.ENOSPC):
		s.handles.closeDropped(p, time.Unix(0, p.dropped.Load()), 0)
	}
}
