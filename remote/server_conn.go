package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/zmtp"
)

// conn is a connection of the server. Its goroutine reads messages, and applies
// changes in the order in which they come; what only reads, and may take
// longer, runs in a few goroutines beside it.
type conn struct {
	server *Server
	nc     net.Conn
	id     uint64 // counts connections: a later one has a higher id
	since  time.Time

	listener  ServeOptions // of where it came in
	access    access       // by its goroutine
	namespace string       // that it works on, once that is settled
	space     *space       // the default one until then

	tenant   *tenant      // of its peer
	account  *account     // of the memory it holds
	lastUsed atomic.Int64 // when a message came, in nanoseconds
	worked   atomic.Bool  // it has asked for more than a hello

	ctx    context.Context // of requests that only read: ends with the connection
	cancel context.CancelFunc
	reader *zmtp.Reader

	writing sync.Mutex // taken before the quotas' mu
	out     []byte     // what is being written, kept for the next time

	reads    semaphore // of the requests answered beside it
	running  sync.WaitGroup
	handles  handles
	upload   upload
	used     map[uint64]*session // sessions that it has open, by its goroutine
	sessions atomic.Int64        // how many
	entries  []partd.Entry
	page     int // bytes of a reply, about
}

func newConn(s *Server, nc net.Conn, id uint64) *conn {
	c := &conn{server: s, nc: nc, id: id, since: time.Now(), page: minPage, space: s.space, reads: make(semaphore, maxReads)}
	c.lastUsed.Store(c.since.UnixNano())
	c.ctx, c.cancel = context.WithCancel(s.base)
	c.tenant = s.quotas.enter(peerOf(nc))
	c.account = s.quotas.open(c.tenant, s.opts.StallTimeout, c.evict)
	h := &c.handles
	h.table, h.tenant, h.space, h.open = &s.handles, c.tenant, s.space, map[uint64]*handle{}
	return c
}

func peerName(nc net.Conn) string {
	if a := nc.RemoteAddr(); a != nil && a.String() != "" && a.String() != "@" {
		return a.String()
	}
	return "local"
}

func (c *conn) abort() {
	c.cancel()
	hangUp(c.nc) // its goroutine notices
}

// evict ends the connection, as others need what it holds.
func (c *conn) evict() {
	c.server.meters.evicted.Add(1)
	c.server.opts.Logger.Warn("connection closed: others need its memory or its place", "peer", peerName(c.nc))
	c.abort()
}

var errClosing = errors.New("the server is closing")

func (c *conn) run() {
	defer c.server.forget(c)
	err := c.serve()
	// Before ctx ends: answers that are on their way are still sent.
	if c.server.isClosing() {
		c.running.Wait()
	}
	c.cancel()
	_ = c.nc.Close() // what was to be sent has been
	c.running.Wait()
	c.handles.close()
	c.upload.drop(c)
	c.space.sessions.leave(c)
	c.server.leaveSpace(c.space)
	c.account.close()
	c.server.quotas.leave(c.tenant)
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, errClosing), errors.Is(err, net.ErrClosed):
		c.server.opts.Logger.Debug("connection ended", "peer", peerName(c.nc), "reason", err)
	default:
		c.server.meters.faulty.Add(1)
		c.server.opts.Logger.Warn("connection closed", "peer", peerName(c.nc), "error", err)
	}
}

func (c *conn) serve() error {
	rest, err := c.handshake()
	c.server.mu.Lock()
	c.server.removeGreeting(c)
	c.server.mu.Unlock()
	if err != nil {
		return err
	}
	o := &c.server.opts
	longest := o.MaxMessage
	if o.Authorizer != nil && !c.listener.Trusted {
		longest = minMessage // until it is known who sends it
	}
	c.reader = zmtp.NewReader(c.nc, rest, zmtp.ReaderOptions{
		MaxMessage: longest, MaxFrames: int(o.Memory / frameMemory), Idle: o.IdleTimeout, Stall: o.StallTimeout, Budget: c,
		Wait: func() error {
			if c.server.isClosing() {
				return errClosing
			}
			return nil
		},
		Command: func(body []byte) error {
			pong, err := zmtp.Pong(body)
			if err != nil || pong == nil {
				return err
			}
			return c.write(pong)
		},
	})
	c.server.quotas.mu.Lock()
	c.account.received = c.reader.Received
	c.server.quotas.mu.Unlock()
	defer c.reader.Close()
	for {
		frames, err := c.reader.Next()
		if err != nil {
			if err := c.refuse(err); err != nil {
				return err
			}
			continue
		}
		c.lastUsed.Store(time.Now().UnixNano())
		if c.server.many.Load() {
			c.tenant.takeTurn()
		}
		if isRequest(frames[0]) {
			err = c.request(frames)
		} else {
			err = c.python(frames)
		}
		if err != nil {
			return err
		}
	}
}

// handshake opens the connection: TLS where its listener has that, then ZMTP.
func (c *conn) handshake() (rest []byte, err error) {
	timeout := c.server.opts.HandshakeTimeout
	if s, ok := c.nc.(*tls.Conn); ok {
		ctx, cancel := context.WithTimeout(c.ctx, timeout)
		defer cancel()
		if err := s.HandshakeContext(ctx); err != nil {
			c.server.meters.withoutTLS.Add(1)
			return nil, fmt.Errorf("no TLS connection: %w", err)
		}
		timeout = max(timeout-time.Since(c.since), time.Millisecond)
	}
	return zmtp.Open(c.nc, zmtp.Router, timeout)
}

// writeStep bounds what one deadline is for.
const writeStep = 512 << 10

// write writes to the peer, who must take 512 KiB within the time to stall, or in
// that time 16 KiB for each second of it. An error ends the connection.
func (c *conn) write(parts ...[]byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.writeLocked(parts...)
}

func (c *conn) writeLocked(parts ...[]byte) error {
	total := 0
	for _, p := range parts {
		total += len(p)
	}
	if len(parts) > 1 && total <= 4<<10 {
		c.out = c.out[:0]
		for _, p := range parts {
			c.out = append(c.out, p...)
		}
		parts = [][]byte{c.out}
	}
	for len(parts) > 0 {
		var step net.Buffers
		size := 0
		for len(parts) > 0 && size < writeStep {
			p := parts[0]
			if left := writeStep - size; len(p) > left {
				p = p[:left]
				parts[0] = parts[0][left:]
			} else {
				parts = parts[1:]
			}
			size += len(p)
			step = append(step, p)
		}
		if err := c.writeStep(step); err != nil {
			c.abort()
			return err
		}
	}
	return nil
}

func (c *conn) writeStep(step net.Buffers) error {
	patience := c.server.opts.StallTimeout
	_, isTLS := c.nc.(*tls.Conn)
	if isTLS { // it cannot go on after a deadline, so the step has all of its time at once
		size := 0
		for _, p := range step {
			size += len(p)
		}
		patience += time.Duration(size) * time.Second / zmtp.MinRate
	}
	for {
		if err := c.nc.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		n, err := step.WriteTo(c.nc) // which takes from step what was written
		c.account.sent.Add(n)
		c.server.meters.sent.Add(n)
		slow := !isTLS && errors.Is(err, os.ErrDeadlineExceeded) && float64(n) >= patience.Seconds()*zmtp.MinRate
		if !slow {
			return err
		}
	}
}
