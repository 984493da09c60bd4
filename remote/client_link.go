package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/server/zmtp"
)

type link struct {
	client *Client
	nc     net.Conn
	reader *zmtp.Reader

	// writeToken is a lock for writing to nc. Acquire it before a call's writeMu.
	writeToken chan struct{}
	dead       atomic.Bool
	done       chan struct{} // closed when the goroutine that reads replies has ended

	useful bool // the connection has delivered an answer; guarded by the client's mu

	instance   uint64 // identifies the server process
	maxMessage int64
	pageSize   int
}

// maxReply is the maximum length of a reply, in bytes: a page, the headers of its items and one key.
const maxReply = defaultPage + 1<<20

// connect opens a connection and returns it with its writeToken held.
func (c *Client) connect(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nc, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { hangUp(nc) }) // makes the handshake fail
	l, err := c.open(nc)
	if !stop() && err == nil {
		err = canceled.Err(ctx)
	}
	if err != nil {
		hangUp(nc)
		return nil, errors.Join(err, canceled.Err(ctx))
	}
	go l.readLoop()
	return l, nil
}

func (c *Client) dialNet(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 6}}
	nc, err := dialer.DialContext(ctx, c.addr.network, c.addr.address)
	if err != nil {
		return nil, err
	}
	if !c.addr.secure {
		if err := c.checkTokenExposure(nc.RemoteAddr()); err != nil {
			hangUp(nc)
			return nil, err
		}
		return nc, nil
	}
	s := tls.Client(nc, c.tls)
	if err := s.HandshakeContext(ctx); err != nil {
		hangUp(nc)
		return nil, fmt.Errorf("cannot establish TLS: %w", err)
	}
	return s, nil
}

// checkTokenExposure returns an error if others could read the token on its way to the server.
func (c *Client) checkTokenExposure(addr net.Addr) error {
	if c.opts.Token == "" || c.opts.InsecureToken || !IsExposed(addr) {
		return nil
	}
	return fmt.Errorf("%w: the token was not sent, because others could read it over tcp://: use tls:// (or insecure=true, if nobody can eavesdrop on the network)", errRefused)
}

func (c *Client) open(nc net.Conn) (*link, error) {
	buffered, err := zmtp.Open(nc, zmtp.Dealer, dialTimeout)
	if errors.Is(err, zmtp.ErrLibzmq) {
		return nil, fmt.Errorf("%w: %w", errHello, err)
	}
	if err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return nil, err
	}
	l := &link{client: c, nc: nc, writeToken: make(chan struct{}, 1), done: make(chan struct{})}
	l.writeToken <- struct{}{}
	l.reader = zmtp.NewReader(nc, buffered, zmtp.ReaderOptions{
		MaxMessage: maxReply, MaxFrames: 16, Stall: defaultStall,
		Command: l.command,
	})
	c.mu.Lock()
	session := c.ops.session
	var token partd.SessionToken
	if p := c.proofs[session]; p != nil {
		p.link, token = l, p.token
	}
	c.mu.Unlock()
	k := newCall(opHello)
	k.u16(protocolVersion)
	k.u16(protocolVersion)
	k.u32(defaultPage)
	k.u64(session)
	k.buf = append(k.buf, token[:]...)
	k.buf = appendText(k.buf, c.opts.Namespace)
	k.buf = appendText(k.buf, c.opts.Token)
	k.number = 1
	if err := l.write(k.parts()); err != nil {
		return nil, err
	}
	frame, _, err := l.reader.NextFrame()
	if err != nil {
		return nil, err
	}
	if err := l.parseHello(frame); err != nil {
		return nil, err
	}
	return l, nc.SetDeadline(time.Time{})
}

// errHello means that the server speaks another protocol or version. Reconnecting does not help.
var errHello = errors.New("the server does not answer like a partd server")

// errRefused means that the server rejected the client, or that the client must not send its
// token. Reconnecting does not help.
var errRefused = errors.New("refused")

func (l *link) parseHello(frame []byte) error {
	r, body, err := parseReply(frame)
	if err != nil {
		return fmt.Errorf("%w: %w", errHello, err)
	}
	if r.status != statusOK {
		err := parseError(body, "hello", l.client.url)
		if errors.Is(err, ErrBusy) {
			return err
		}
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	d := &decoder{b: body}
	version, _ := d.u32(), d.u32()
	l.instance, l.maxMessage, l.pageSize = d.u64(), int64(d.u64()), int(d.u32())
	_ = d.u32() // maximum number of handles
	if d.err != nil || version != protocolVersion || l.maxMessage < minMessage || l.pageSize < 1 || l.pageSize > defaultPage {
		return fmt.Errorf("%w: version %d, messages of %d bytes, pages of %d", errHello, version, l.maxMessage, l.pageSize)
	}
	return nil
}

// command answers a PING with a PONG, unless another goroutine is writing a message: that message
// already shows that the client is alive.
func (l *link) command(body []byte) error {
	pong, err := zmtp.Pong(body)
	if err != nil || pong == nil {
		return err
	}
	select {
	case l.writeToken <- struct{}{}:
		defer func() { <-l.writeToken }()
		return l.write([][]byte{pong})
	default:
		return nil
	}
}

// abort breaks the connection. The reader goroutine detects it.
func (l *link) abort() {
	l.dead.Store(true)
	hangUp(l.nc)
}

func (l *link) write(parts [][]byte) error {
	if len(parts) == 1 {
		_, err := l.nc.Write(parts[0])
		return err
	}
	buffers := net.Buffers(parts)
	_, err := buffers.WriteTo(l.nc)
	return err
}

// sendGrace is how long send may continue writing a call after its context has ended.
const sendGrace = 100 * time.Millisecond

// send writes a call. The caller must hold l.writeToken. After an error, or if writing is not
// finished within sendGrace after the end of ctx, send breaks the connection, because the server
// cannot use an incomplete message. The client then resends its other calls.
func (l *link) send(ctx context.Context, k *call) error {
	if ctx.Done() != nil {
		written := make(chan struct{})
		defer close(written)
		stop := context.AfterFunc(ctx, func() {
			select {
			case <-written:
			case <-time.After(sendGrace):
				l.abort()
			}
		})
		defer stop()
	}
	err := l.sendToken(k)
	if err == nil {
		err = l.write(k.parts())
	}
	if err != nil {
		l.abort()
	}
	return err
}

// notify sends a request and ignores the answer. It waits for other writers until ctx ends.
func (l *link) notify(ctx context.Context, k *call) {
	select {
	case l.writeToken <- struct{}{}:
		_ = l.send(ctx, k) // the link's reader detects errors
		<-l.writeToken
	case <-l.done:
	case <-ctx.Done():
	}
}

// checkSize returns an error if a call exceeds the server's message limit.
func (l *link) checkSize(k *call) error {
	if size := int64(headRoom + k.size()); size > l.maxMessage {
		return fmt.Errorf("%w: the message has %d bytes, and the server accepts %d: split the operation", partd.ErrTooLarge, size, l.maxMessage)
	}
	return nil
}

func (l *link) readLoop() {
	err := l.readReplies()
	l.abort()
	l.reader.Close()
	l.client.handleLoss(l, err)
	close(l.done)
}

func (l *link) readReplies() error {
	for {
		frame, owned, err := l.reader.NextFrame()
		if err != nil {
			return err
		}
		r, body, err := parseReply(frame)
		if err != nil {
			return fmt.Errorf("cannot decode the server's answer: %w", err)
		}
		if err := l.client.handleReply(l, r, body, owned); err != nil {
			return err
		}
	}
}
