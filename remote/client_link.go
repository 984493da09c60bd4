package remote

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/zmtp"
)

// link is one connection to the server. The exchange reads its replies.
type link struct {
	nc     net.Conn
	reader *zmtp.Reader
	proofs *proofs // the client's

	// writeToken is a lock for writing to nc. Acquire it before a call's writeMu.
	writeToken chan struct{}
	dead       atomic.Bool
	done       chan struct{} // closed when the goroutine that reads replies has ended

	useful bool // the connection has delivered an answer; guarded by exchange.mu

	instance   uint64 // identifies the server process
	maxMessage int64
	pageSize   int
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
// finished within sendGrace after ctx is done, send breaks the connection, because the server
// cannot use an incomplete message. The client then resends its other calls.
func (l *link) send(ctx context.Context, req *call) error {
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
	err := l.writeCall(req)
	if err != nil {
		l.abort()
	}
	return err
}

// writeCall writes a call. If the server does not have the token of the call's session yet,
// writeCall first writes the token.
func (l *link) writeCall(req *call) error {
	if token, ok := l.proofs.present(req.session, l); ok {
		request := newSessionRequest(req.session, token)
		defer request.recycle()
		if err := l.write(request.parts()); err != nil {
			return err
		}
	}
	return l.write(req.parts())
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
	if size := int64(headRoom + req.size()); size > l.maxMessage {
		return fmt.Errorf("%w: the message has %d bytes, and the server accepts %d: split the operation", partd.ErrTooLarge, size, l.maxMessage)
	}
	return nil
}

// proof is a session's token, and the last connection over which it was presented. A
// server rejects requests for a session whose token it has not seen.
type proof struct {
	token partd.SessionToken
	link  *link
}

// proofs holds the session tokens that a client may use.
type proofs struct {
	mu        sync.Mutex // locked last
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
	if f := p.bySession[session]; f != nil {
		return f.token, true
	}
	return token, false
}

// present returns the token that must be sent over l before a request for a session. It returns
// false if the token is unknown, or was already presented over l.
func (p *proofs) present(session uint64, l *link) (token partd.SessionToken, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.bySession[session]
	if f == nil || f.link == l {
		return token, false
	}
	f.link = l
	return f.token, true
}
