package remote

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
)

// proof is the token of a session, with the connection that it was shown on last:
// a server lets nobody use a session whose token it has not seen.
type proof struct {
	token partd.SessionToken
	via   *link
}

func (c *Client) remember(session uint64, token partd.SessionToken, via *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proofs[session] = &proof{token, via}
}

// show shows the token of the session that a call is of, where the connection has
// not seen it. The token is held.
func (l *link) show(k *call) error {
	c := l.client
	c.mu.Lock()
	p := c.proofs[k.session]
	if p == nil || p.via == l {
		c.mu.Unlock()
		return nil
	}
	p.via = l
	token := p.token
	c.mu.Unlock()
	enter := newEnter(k.session, token)
	defer enter.recycle()
	return l.write(enter.parts())
}

// newEnter is a request to go on with a session, or with 0 for a new one.
func newEnter(session uint64, token partd.SessionToken) *call {
	k := newCall(opSession)
	k.u64(session)
	k.buf = append(k.buf, token[:]...)
	return k
}

// begun takes the answer to a request for a new session.
func (c *Client) begun(k *call) (session uint64, kept bool, err error) {
	d := &decoder{b: k.reply}
	session, kept = d.u64(), d.bool()
	token := d.token()
	if err := d.end(); err != nil || session == 0 {
		return 0, false, fmt.Errorf("the server answered with session %d: %w", session, errors.Join(ErrBadRequest, err))
	}
	c.remember(session, token, k.via)
	return session, kept, nil
}

// NewSession issues a session of the server's store, for [Client.Apply].
func (c *Client) NewSession(ctx context.Context) (uint64, error) {
	k := newEnter(0, partd.SessionToken{})
	if err := c.do(ctx, k); err != nil {
		return 0, c.errorf("new session", err)
	}
	session, _, err := c.begun(k)
	return session, c.errorf("new session", err)
}

// EndSession forgets a session. It leaves sessions of other clients alone.
func (c *Client) EndSession(ctx context.Context, session uint64) error {
	k := newCall(opEndSession)
	k.session = session
	err := c.do(ctx, k)
	if err == nil {
		c.mu.Lock()
		delete(c.proofs, session)
		c.mu.Unlock()
	}
	return c.errorf("end session", err)
}

// SessionToken returns the token of a session that was issued to the client.
func (c *Client) SessionToken(_ context.Context, session uint64) (partd.SessionToken, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.proofs[session]; p != nil {
		return p.token, nil
	}
	return partd.SessionToken{}, c.errorf("session token", fmt.Errorf("session %d: %w", session, partd.ErrSessionExpired))
}

// CheckSession presents to the server the token of a session that was issued
// to another client. From then on this client may also use the session.
func (c *Client) CheckSession(ctx context.Context, session uint64, token partd.SessionToken) error {
	k := newEnter(session, token)
	if err := c.do(ctx, k); err != nil {
		return c.errorf("check session", err)
	}
	c.remember(session, token, k.via)
	return nil
}

// opSequence is the client's session and the numbers of its changes. All is
// guarded by the client's mu.
//
// A change that was answered with an error leaves its number free, and those
// sent behind it are refused. Then nothing more is sent until all that is on its
// way was answered; the refused ones are numbered anew, from the free number on.
type opSequence struct {
	session uint64 // 0 if there is none
	kept    bool   // by the store, so that it outlives the server
	next    uint64 // the number of the next change
	waiting int    // changes that were sent and not answered
	lastPop uint64 // pops have numbers of their own

	recent [2]uint64 // this session and the one before

	free    uint64        // the lowest number that is free, 0 for none
	over    bool          // the session is of no more use
	settled chan struct{} // closed when all is answered, nil if nobody has to wait
}

// renew makes the next change begin a new session.
func (n *opSequence) renew() {
	if n.settled != nil {
		close(n.settled)
	}
	*n = opSequence{recent: n.recent}
}

func (n *opSequence) handleReply(c *Client, k *call, err error) {
	if k.session != n.session { // of one before
		c.complete(k, err)
		return
	}
	n.waiting--
	switch {
	case err == nil:
	case errors.Is(err, partd.ErrUnknownOutcome): // whatever else it is, as it may be both where the server's store is another server
		n.over = true
	case errors.Is(err, partd.ErrSessionGap):
		// Not applied, as one before it was not. If no such one is known, the
		// server's store has lost some, and the numbers are worth nothing.
		n.over = n.over || n.free == 0
		k.again, err = !k.abandoned, nil
	case errors.Is(err, partd.ErrSessionExpired):
		n.over = true
		if k.sends == 1 {
			k.again, err = !k.abandoned, nil
		} else {
			err = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)
		}
	case errors.Is(err, partd.ErrSessionReused):
		// The number of a change given up was sent again with another: the
		// change itself had been applied.
		n.over = n.over || !k.abandoned
	default:
		if n.free == 0 || k.seq < n.free {
			n.free = k.seq
		}
	}
	c.complete(k, err)
	if n.free == 0 && !n.over {
		return
	}
	if n.waiting > 0 {
		if n.settled == nil {
			n.settled = make(chan struct{})
		}
		return
	}
	if n.over {
		n.renew()
		return
	}
	n.next, n.free = n.free, 0
	if n.settled != nil {
		close(n.settled)
		n.settled = nil
	}
}

// needSession begins a session if there is none. The token is held, so nothing
// else is sent meanwhile.
func (c *Client) needSession(ctx context.Context, l *link) error {
	c.mu.Lock()
	if c.ops.session != 0 || c.link != l {
		c.mu.Unlock()
		return nil
	}
	k := newEnter(0, partd.SessionToken{})
	k.bound, k.via = l, l
	k.sends = 1
	c.register(k)
	c.mu.Unlock()
	defer k.recycle()
	defer k.forget(c)
	_ = l.send(ctx, k) // its reader notices
	if err := canceled.Wait(ctx, k.done); err != nil {
		return err
	}
	if k.err != nil {
		if errors.Is(k.err, ErrLost) {
			return nil // another connection will do
		}
		return k.err
	}
	session, kept, err := c.begun(k)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops.renew()
	// What is still asked of the session before needs its token; of one before
	// that nothing is.
	delete(c.proofs, c.ops.recent[1])
	c.ops.recent = [2]uint64{session, c.ops.recent[0]}
	c.ops.session, c.ops.kept, c.ops.next = session, kept, 1
	return nil
}
