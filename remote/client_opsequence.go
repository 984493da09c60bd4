package remote

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
)

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

func (n *opSequence) assign(k *call) {
	k.session, k.seq = n.session, n.next
	n.next++
	n.waiting++
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

// assignPop gives a pop its number, and notes which server it is sent to first.
func (n *opSequence) assignPop(k *call, instance uint64) {
	n.lastPop++
	k.session, k.seq = n.session, n.lastPop
	putU64(k.buf[k.instance:], instance)
}
