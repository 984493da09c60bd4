package remote

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
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
