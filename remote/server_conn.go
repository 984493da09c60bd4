package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/zmtp"
)

// conn is a client's connection to the server. Its goroutine reads messages and applies changes in
// order of arrival. A few other goroutines answer slower requests, such as those that only read.
type conn struct {
	transport
	access
	server *Server

	running  sync.WaitGroup
	handles  handles
	sessions connSessions
	entries  []partd.Entry // reused to decode changes
	pageSize int           // approximate maximum size of a reply
}

func newConn(s *Server, nc net.Conn, id uint64) *conn {
	c := &conn{server: s, pageSize: minPage}
	t := &c.transport
	t.nc, t.id, t.openedAt, t.reads = nc, id, time.Now(), make(semaphore, maxReads)
	t.opts, t.meters, t.budget, t.changeCtx = &s.opts, &s.meters, &s.budget, s.changeCtx
	t.lastUsed.Store(t.openedAt.UnixNano())
	t.ctx, t.cancel = context.WithCancel(s.changeCtx)
	t.tenant = s.budget.acquire(peerOf(nc))
	t.account = s.budget.newAccount(t.tenant, s.opts.StallTimeout, t.evict)
	c.access = access{peer: t, logins: &s.logins, recorder: &s.recorder, space: s.space}
	c.access.enterSpace = func(name string) (*space, error) {
		p, err := s.spaces.acquire(name)
		if err != nil {
			return p, err
		}
		c.handles.space = p
		return p, nil
	}
	c.sessions = connSessions{peer: t, evictSessionHolder: s.evictSessionHolder}
	h := &c.handles
	h.table, h.tenant, h.space, h.open = &s.handles, t.tenant, s.space, map[uint64]*openHandle{}
	return c
}

func (c *conn) newAnswer() *answerBuilder {
	a := &answerBuilder{
		allowance: allowance{account: c.account, ctx: c.ctx}, builder: newBuilder(), pageSize: c.budget.pageSize(c.pageSize),
	}
	if cap(a.buf) > freeBytes {
		// The recycled buffer may be larger than this answer needs, and a slow peer could
		// keep it in use for a long time.
		if c.Crowded() {
			a.builder = builder{buf: make([]byte, headerSpace, 4<<10)}
		} else {
			a.force(int64(cap(a.buf)))
		}
	}
	// Reserve the memory for the store's reader together with that for the data.
	a.minFirstRaise = int64(a.pageSize+a.pageSize/2) + c.handles.cost(false)
	return a
}

func (c *conn) run() {
	defer c.server.forget(c)
	err := c.serve()
	// Wait before canceling ctx, so that answers in progress are still sent.
	if c.server.isClosing() {
		c.running.Wait()
	}
	c.cancel()
	_ = c.nc.Close() // ignore the error, because the connection is no longer needed
	c.running.Wait()
	c.handles.close()
	c.space.sessions.forgetAll(&c.sessions)
	c.server.spaces.release(c.space)
	c.release()
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, errClosing), errors.Is(err, net.ErrClosed):
		c.opts.Logger.Debug("connection ended", "peer", peerName(c.nc), "reason", err)
	default:
		c.meters.faultyConns.Add(1)
		c.opts.Logger.Warn("connection closed", "peer", peerName(c.nc), "error", err)
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
	o := c.opts
	maxMessage := o.messageLimit()
	if o.Authorizer != nil && !c.listener.Trusted {
		maxMessage = minMessage // until the client is authenticated
	}
	c.reader = zmtp.NewReader(c.nc, buffered, zmtp.ReaderOptions{
		MaxMessage: maxMessage, MaxFrames: int(o.Memory / frameMemory), Idle: o.IdleTimeout, Stall: o.StallTimeout, Budget: &c.transport,
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
	c.budget.mu.Lock()
	c.account.received = c.reader.BytesReceived
	c.budget.mu.Unlock()
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
		if c.server.manyConns.Load() {
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

// handshake performs the TLS handshake, if the listener uses TLS, and then the ZMTP handshake. It
// returns the bytes that it has read beyond the handshake.
func (c *conn) handshake() (buffered []byte, err error) {
	timeout := c.opts.HandshakeTimeout
	if s, ok := c.nc.(*tls.Conn); ok {
		ctx, cancel := context.WithTimeout(c.ctx, timeout)
		defer cancel()
		if err := s.HandshakeContext(ctx); err != nil {
			c.meters.failedTLS.Add(1)
			return nil, fmt.Errorf("cannot establish TLS: %w", err)
		}
		timeout = max(timeout-time.Since(c.openedAt), time.Millisecond)
	}
	return zmtp.Open(c.nc, zmtp.Router, timeout)
}
