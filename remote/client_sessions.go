package remote

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
)

// proof is the token of a session, and the last connection over which it was presented. A
// server rejects requests for a session whose token it has not seen.
type proof struct {
	token partd.SessionToken
	link  *link
}

func (c *Client) storeProof(session uint64, token partd.SessionToken, l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proofs[session] = &proof{token, l}
}

// sendToken sends the token of the call's session, unless it was already sent over this
// connection. l.writeToken must be held.
func (l *link) sendToken(k *call) error {
	c := l.client
	c.mu.Lock()
	p := c.proofs[k.session]
	if p == nil || p.link == l {
		c.mu.Unlock()
		return nil
	}
	p.link = l
	token := p.token
	c.mu.Unlock()
	enter := newSessionRequest(k.session, token)
	defer enter.recycle()
	return l.write(enter.parts())
}

// newSessionRequest returns a request to use a session or, if session is 0, to create one.
func newSessionRequest(session uint64, token partd.SessionToken) *call {
	k := newCall(opSession)
	k.u64(session)
	k.buf = append(k.buf, token[:]...)
	return k
}

// parseSession parses the answer to a request for a new session, and remembers the
// session's token.
func (c *Client) parseSession(k *call) (session uint64, storeKeeps bool, err error) {
	d := &decoder{b: k.reply}
	session, storeKeeps = d.u64(), d.bool()
	token := d.token()
	if err := d.end(); err != nil || session == 0 {
		return 0, false, fmt.Errorf("the server answered with session %d: %w", session, errors.Join(ErrBadRequest, err))
	}
	c.storeProof(session, token, k.link)
	return session, storeKeeps, nil
}

// NewSession issues a session of the server's store, for [Client.Apply].
func (c *Client) NewSession(ctx context.Context) (uint64, error) {
	k := newSessionRequest(0, partd.SessionToken{})
	if err := c.do(ctx, k); err != nil {
		return 0, c.wrapError("new session", err)
	}
	session, _, err := c.parseSession(k)
	return session, c.wrapError("new session", err)
}

// EndSession forgets a session. Sessions of other clients are not affected.
func (c *Client) EndSession(ctx context.Context, session uint64) error {
	k := newCall(opEndSession)
	k.session = session
	err := c.do(ctx, k)
	if err == nil {
		c.mu.Lock()
		delete(c.proofs, session)
		c.mu.Unlock()
	}
	return c.wrapError("end session", err)
}

// SessionToken returns the token of a session that was issued to this client.
func (c *Client) SessionToken(_ context.Context, session uint64) (partd.SessionToken, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.proofs[session]; p != nil {
		return p.token, nil
	}
	return partd.SessionToken{}, c.wrapError("session token", fmt.Errorf("session %d: %w", session, partd.ErrSessionExpired))
}

// CheckSession presents the token of another client's session to the server. If it succeeds, this
// client may also use the session.
func (c *Client) CheckSession(ctx context.Context, session uint64, token partd.SessionToken) error {
	k := newSessionRequest(session, token)
	if err := c.do(ctx, k); err != nil {
		return c.wrapError("check session", err)
	}
	c.storeProof(session, token, k.link)
	return nil
}

// opSequence is the client's session and the numbers of its changes. The client's mu guards it.
//
// If a change fails, its number stays free, and the server rejects all changes that were sent after
// the failed one. The client then waits until all sent changes are answered, and sends the rejected
// ones again, numbered from the free number.
type opSequence struct {
	session    uint64 // 0 without a session
	storeKeeps bool   // the session survives a restart of the server, because the store keeps it
	next       uint64 // number of the next change
	unanswered int    // number of unanswered changes
	lastPop    uint64 // pops have their own numbers

	recentSessions [2]uint64 // the current session and the previous one

	freeNumber  uint64        // lowest free number, or 0
	unusable    bool          // the session can no longer be used
	allAnswered chan struct{} // closed when all changes are answered; nil if no change must wait
}

func (n *opSequence) renew() {
	if n.allAnswered != nil {
		close(n.allAnswered)
	}
	*n = opSequence{recentSessions: n.recentSessions}
}

func (n *opSequence) handleReply(c *Client, k *call, err error) {
	if k.session != n.session { // the call belongs to an earlier session
		c.complete(k, err)
		return
	}
	n.unanswered--
	switch {
	case err == nil:
	// Check this error first: err can wrap several of these errors if the server's store is itself
	// a client.
	case errors.Is(err, partd.ErrUnknownOutcome):
		n.unusable = true
	case errors.Is(err, partd.ErrSessionGap):
		// The change was not applied, because an earlier change was not applied. If the client
		// knows of no failed change, the server's store has lost some changes, and the session's
		// numbers are useless.
		n.unusable = n.unusable || n.freeNumber == 0
		k.mustRenumber, err = !k.abandoned, nil
	case errors.Is(err, partd.ErrSessionExpired):
		n.unusable = true
		if k.sendCount == 1 {
			k.mustRenumber, err = !k.abandoned, nil
		} else {
			err = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)
		}
	case errors.Is(err, partd.ErrSessionReused):
		// For an abandoned change, this error is harmless: the client resent an empty change with
		// the same number, and the server had already applied the original.
		n.unusable = n.unusable || !k.abandoned
	default:
		if n.freeNumber == 0 || k.seq < n.freeNumber {
			n.freeNumber = k.seq
		}
	}
	c.complete(k, err)
	if n.freeNumber == 0 && !n.unusable {
		return
	}
	if n.unanswered > 0 {
		if n.allAnswered == nil {
			n.allAnswered = make(chan struct{})
		}
		return
	}
	if n.unusable {
		n.renew()
		return
	}
	n.next, n.freeNumber = n.freeNumber, 0
	if n.allAnswered != nil {
		close(n.allAnswered)
		n.allAnswered = nil
	}
}

// ensureSession creates a session unless the client has one. The caller must hold l.writeToken.
func (c *Client) ensureSession(ctx context.Context, l *link) error {
	c.mu.Lock()
	if c.ops.session != 0 || c.link != l {
		c.mu.Unlock()
		return nil
	}
	k := newSessionRequest(0, partd.SessionToken{})
	k.boundLink, k.link = l, l
	k.sendCount = 1
	c.register(k)
	c.mu.Unlock()
	defer k.recycle()
	defer k.forget(c)
	_ = l.send(ctx, k) // the link's reader detects errors
	if err := canceled.Wait(ctx, k.done); err != nil {
		return err
	}
	if k.err != nil {
		if errors.Is(k.err, ErrLost) {
			return nil // the caller will use another connection
		}
		return k.err
	}
	session, storeKeeps, err := c.parseSession(k)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops.renew()
	// Keep the token of the previous session, because its calls may still need it. Calls of
	// older sessions have all ended.
	delete(c.proofs, c.ops.recentSessions[1])
	c.ops.recentSessions = [2]uint64{session, c.ops.recentSessions[0]}
	c.ops.session, c.ops.storeKeeps, c.ops.next = session, storeKeeps, 1
	return nil
}
