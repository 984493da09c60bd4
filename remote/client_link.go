package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/server/zmtp"
)

// link is a connection to the server. A goroutine of the exchange reads its replies.
type link struct {
	nc     net.Conn
	reader *zmtp.Reader
	proofs *proofs // session tokens of the client

	// writeToken is a lock for writing to nc. Acquire it before a call's writeMu.
	writeToken chan struct{}
	dead       atomic.Bool
	done       chan struct{} // closed when the goroutine that reads replies has ended

	hasAnswered bool // an answer has arrived over the connection; guarded by exchange.mu

	instance   uint64 // identifies the server process
	maxMessage int64
	pageSize   int
}

// command answers a PING with a PONG unless another goroutine is writing a message, because that
// message already shows that the client is alive.
func (l *link) command(body []byte) error {
	pong, err := zmtp.Pong(body)
	if err != nil || pong == nil {
		return err
	}
	select {
	case l.writeToken <- struct{}{}:
		defer func() { <-l.writeToken }()
		_, err := l.write([][]byte{pong})
		return err
	default:
		return nil
	}
}

// abort breaks the connection. The reader goroutine detects it.
func (l *link) abort() {
	l.dead.Store(true)
	hangUp(l.nc)
}

// write writes the parts of a message and returns those that it could not write.
func (l *link) write(parts [][]byte) (unwritten net.Buffers, err error) {
	if len(parts) == 1 {
		n, err := l.nc.Write(parts[0])
		return net.Buffers{parts[0][n:]}, err
	}
	unwritten = parts
	_, err = unwritten.WriteTo(l.nc)
	return unwritten, err
}

const (
	// sendGrace is how long writing a call may continue after the call's context has ended.
	sendGrace = 100 * time.Millisecond
	// stallTimeout is how long the server may read nothing while finish writes the rest of a call.
	stallTimeout = 10 * time.Second
)

// send writes a call. The caller must hold l.writeToken. After an error, or if writing is not
// finished within sendGrace after ctx is done, send breaks the connection, because the server
// cannot use an incomplete message. The client then resends its other calls.
func (l *link) send(ctx context.Context, req *call) error {
	rest, err := l.sendUntil(ctx, req)
	if len(rest) > 0 {
		l.abort()
		return canceled.Err(ctx)
	}
	return err
}

// sendUntil is like send, but if sendGrace is exceeded, it keeps the connection and returns a copy of
// the unwritten rest, which the caller must pass to finish. It still breaks a TLS connection, over
// which nothing can be sent after an interrupted write.
func (l *link) sendUntil(ctx context.Context, req *call) (rest []byte, err error) {
	writeDone, watchDone := make(chan struct{}), make(chan struct{})
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, func() {
			defer close(watchDone)
			select {
			case <-writeDone:
			case <-time.After(sendGrace):
				if _, isTLS := l.nc.(*tls.Conn); isTLS || l.nc.SetWriteDeadline(time.Now()) != nil {
					l.abort()
				}
			}
		})
	}
	unwritten, err := l.writeCall(req)
	close(writeDone)
	if !stop() {
		<-watchDone
		_ = l.nc.SetWriteDeadline(time.Time{}) // fails only if the connection is broken
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && !l.dead.Load() {
		return bytes.Join(unwritten, nil), nil
	}
	if err != nil {
		l.abort()
	}
	return nil, err
}

// finish writes the rest of an interrupted call and then releases l.writeToken. Breaking the connection instead would
// end the scans of other goroutines. finish writes in the background, because the call's caller no longer waits.
func (l *link) finish(rest []byte) {
	if len(rest) == 0 {
		<-l.writeToken
		return
	}
	go func() {
		defer func() { <-l.writeToken }()
		for len(rest) > 0 {
			_ = l.nc.SetWriteDeadline(time.Now().Add(stallTimeout)) // fails only if the connection is broken
			n, err := l.nc.Write(rest[:min(len(rest), 256<<10)])
			if err != nil {
				l.abort()
				return
			}
			rest = rest[n:]
		}
		_ = l.nc.SetWriteDeadline(time.Time{})
	}()
}

// writeCall writes a call and returns the unwritten parts. If the server does not have the token of the call's
// session yet, writeCall first writes the token.
func (l *link) writeCall(req *call) (unwritten net.Buffers, err error) {
	parts := req.parts()
	if token, ok := l.proofs.present(req.session, l); ok {
		parts = slices.Concat(newSessionRequest(req.session, token).parts(), parts)
	}
	return l.write(parts)
}

// notify sends a request and ignores the answer. It waits for other writers until ctx ends.
func (l *link) notify(ctx context.Context, req *call) {
	select {
	case l.writeToken <- struct{}{}:
		_ = l.send(ctx, req) // the link's reader detects errors
		<-l.writeToken
	case <-l.done:
	case <-ctx.Done():
	}
}

// checkSize returns an error if a call exceeds the server's message limit.
func (l *link) checkSize(req *call) error {
	if size := int64(headerSpace + req.size()); size > l.maxMessage {
		return fmt.Errorf("%w: the message has %d bytes, but the server accepts at most %d: split the operation", partd.ErrTooLarge, size, l.maxMessage)
	}
	return nil
}

// proof is a session's token and the last connection over which it was presented. A server rejects
// requests for a session until the token was presented over the same connection.
type proof struct {
	token partd.SessionToken
	link  *link
}

// proofs holds the session tokens that a client may use.
type proofs struct {
	mu        sync.Mutex // acquired after all other locks
	bySession map[uint64]*proof
}

// store adds a session's token, which was issued or presented over l.
func (p *proofs) store(session uint64, token partd.SessionToken, l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bySession[session] = &proof{token, l}
}

// remove forgets a session's token.
func (p *proofs) remove(session uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.bySession, session)
}

// token returns a session's token.
func (p *proofs) token(session uint64) (token partd.SessionToken, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if entry := p.bySession[session]; entry != nil {
		return entry.token, true
	}
	return token, false
}

// present returns the token that must be sent over l before a request for a session. It returns
// false if the token is unknown or was already presented over l.
func (p *proofs) present(session uint64, l *link) (token partd.SessionToken, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	entry := p.bySession[session]
	if entry == nil || entry.link == l {
		return token, false
	}
	entry.link = l
	return entry.token, true
}
