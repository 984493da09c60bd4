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
	"github.com/go-partd/partd/internal/server/zmtp"
)

// conn is a connection of the server. Its goroutine reads messages and applies changes in the
// order of arrival. A few other goroutines answer requests that only read, which can take longer.
type conn struct {
	server   *Server
	nc       net.Conn
	id       uint64 // increases with each connection
	openedAt time.Time

	serveOptions ServeOptions
	access       access // used only by the conn's goroutine
	namespace    string // "" until access.namespaceFixed is set
	space        *space // the default space until access.namespaceFixed is set

	tenant       *tenant      // the peer, which may have other connections
	account      *account     // counts the memory that the connection holds
	lastUsed     atomic.Int64 // time of the last message, in nanoseconds
	hasRequested atomic.Bool  // a request other than hello has arrived

	ctx    context.Context // context of requests that only read; ends with the connection
	cancel context.CancelFunc
	reader *zmtp.Reader

	writeMu sync.Mutex // locked before the mu of quotas

	reads        semaphore // limits the requests that are answered in other goroutines
	running      sync.WaitGroup
	handles      handles
	openSessions map[uint64]*session // used only by the conn's goroutine
	sessionCount atomic.Int64        // length of openSessions
	entries      []partd.Entry       // reused to decode changes
	pageSize     int                 // approximate maximum size of a reply
}

func newConn(s *Server, nc net.Conn, id uint64) *conn {
	c := &conn{server: s, nc: nc, id: id, openedAt: time.Now(), pageSize: minPage, space: s.space, reads: make(semaphore, maxReads)}
	c.lastUsed.Store(c.openedAt.UnixNano())
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
	hangUp(c.nc) // the connection's goroutine then fails to read, and ends
}

func (c *conn) evict() {
	c.server.meters.evictedConns.Add(1)
	c.server.opts.Logger.Warn("connection closed: other peers need its memory or its slot", "peer", peerName(c.nc))
	c.abort()
}

var errClosing = errors.New("the server is closing")

func (c *conn) run() {
	defer c.server.forget(c)
	err := c.serve()
	// Wait before canceling ctx, so that answers in progress are still sent.
	if c.server.isClosing() {
		c.running.Wait()
	}
	c.cancel()
	_ = c.nc.Close() // ignore the error: the connection is no longer needed
	c.running.Wait()
	c.handles.close()
	c.space.sessions.leave(c)
	c.server.leaveSpace(c.space)
	c.account.close()
	c.server.quotas.leave(c.tenant)
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, errClosing), errors.Is(err, net.ErrClosed):
		c.server.opts.Logger.Debug("connection ended", "peer", peerName(c.nc), "reason", err)
	default:
		c.server.meters.faultyConns.Add(1)
		c.server.opts.Logger.Warn("connection closed", "peer", peerName(c.nc), "error", err)
	}
}

func (c *conn) serve() error {
	buffered, err := c.handshake()
	c.server.mu.Lock()
	c.server.removeHandshaking(c)
	c.server.mu.Unlock()
	if err != nil {
		return err
	}
	o := &c.server.opts
	maxMessage := o.messageLimit()
	if o.Authorizer != nil && !c.serveOptions.Trusted {
		maxMessage = minMessage // until the client is authenticated
	}
	c.reader = zmtp.NewReader(c.nc, buffered, zmtp.ReaderOptions{
		MaxMessage: maxMessage, MaxFrames: int(o.Memory / frameMemory), Idle: o.IdleTimeout, Stall: o.StallTimeout, Budget: c,
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
	c.account.received = c.reader.BytesReceived
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
		if c.server.crowded.Load() {
			c.tenant.takeTurn()
		}
		if isRequest(frames[0]) {
			err = c.request(frames)
		} else {
			err = c.handlePython(frames)
		}
		if err != nil {
			return err
		}
	}
}

// handshake does the TLS handshake, if the listener uses TLS, and then the ZMTP handshake. It
// returns bytes that the peer sent after the handshake.
func (c *conn) handshake() (buffered []byte, err error) {
	timeout := c.server.opts.HandshakeTimeout
	if s, ok := c.nc.(*tls.Conn); ok {
		ctx, cancel := context.WithTimeout(c.ctx, timeout)
		defer cancel()
		if err := s.HandshakeContext(ctx); err != nil {
			c.server.meters.failedTLS.Add(1)
			return nil, fmt.Errorf("cannot establish TLS: %w", err)
		}
		timeout = max(timeout-time.Since(c.openedAt), time.Millisecond)
	}
	return zmtp.Open(c.nc, zmtp.Router, timeout)
}

// bytesPerDeadline is the number of bytes after which write sets a new deadline.
const bytesPerDeadline = 512 << 10

// write writes to the peer. It fails if, during StallTimeout, the peer reads neither 512 KiB in total
// nor 16 KiB per second. An error ends the connection.
func (c *conn) write(parts ...[]byte) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.writeLocked(parts...)
}

func (c *conn) writeLocked(parts ...[]byte) error {
	for len(parts) > 0 {
		if err := c.writeStep(cutPieces(&parts, bytesPerDeadline)); err != nil {
			c.abort()
			return err
		}
	}
	return nil
}

func (c *conn) writeStep(step net.Buffers) error {
	timeout := c.server.opts.StallTimeout
	_, isTLS := c.nc.(*tls.Conn)
	if isTLS { // a TLS connection is unusable after a missed deadline, so allow enough time for the whole step
		size := 0
		for _, p := range step {
			size += len(p)
		}
		timeout += time.Duration(size) * time.Second / zmtp.MinRate
	}
	for {
		if err := c.nc.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		n, err := step.WriteTo(c.nc) // removes the written bytes from step
		c.account.sent.Add(n)
		c.server.meters.bytesSent.Add(n)
		slow := !isTLS && errors.Is(err, os.ErrDeadlineExceeded) && float64(n) >= timeout.Seconds()*zmtp.MinRate
		if !slow {
			return err
		}
	}
}
