package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/server/zmtp"
)

// call is a request and its result.
type call struct {
	request
	builder

	isNumbered     bool  // the call is a change, numbered within the session
	isPop          bool  // the call is a pop, numbered separately from changes
	instanceOffset int   // offset of the server process's number in a pop's body
	boundLink      *link // the only connection that may be used; nil means any

	// writeMu is held while the body is being written. Lock it before the client's mu.
	writeMu sync.Mutex

	// The client's mu guards the fields below until done is closed.
	sendCount    int   // number of connections over which the call was sent
	link         *link // the last connection over which the call was sent
	abandoned    bool  // the caller no longer waits
	finished     bool
	done         chan struct{}
	err          error
	mustRenumber bool // the change was not applied, and must get a new number
	replyFlags   uint8
	reply        []byte // body of the reply, owned by the caller
}

func newCall(op operation) *call {
	return &call{request: request{op: op}, builder: newBuilder(), done: make(chan struct{})}
}

func (k *call) parts() [][]byte {
	var head [headRoom]byte
	return k.frame(k.request.append(zmtp.AppendHeader(head[:0], requestLen+k.size(), false)))
}

// register gives a call its number. mu must be held.
func (c *Client) register(k *call) {
	c.lastNumber++
	k.number = c.lastNumber
	c.calls[k.number] = k
}

func (k *call) forget(c *Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, k.number)
}

// do sends a call and waits for its answer. When it returns, the call's memory is no
// longer in use.
func (c *Client) do(ctx context.Context, k *call) error {
	if err := c.checkUsable(ctx); err != nil {
		return err
	}
	for {
		err := c.start(ctx, k)
		if err == nil {
			err = c.wait(ctx, k)
		}
		if errors.Is(err, ErrLost) && ctx.Err() != nil {
			return canceled.Err(ctx) // the end of ctx may have broken the connection
		}
		if err != nil || !k.mustRenumber {
			return err
		}
		k.mustRenumber, k.finished, k.sendCount, k.done = false, false, 0, make(chan struct{})
	}
}

func (c *Client) wait(ctx context.Context, k *call) error {
	select {
	case <-k.done:
	case <-ctx.Done():
		if err := c.abandon(ctx, k); err != nil {
			return err
		}
	}
	// Another goroutine may still be resending the call. Wait for that goroutine, because the
	// caller may reuse the call's memory once wait has returned.
	k.writeMu.Lock()
	defer k.writeMu.Unlock()
	return k.err
}

// start assigns a call its numbers and sends it. If start returns an error, the call was not sent.
// If the connection breaks during the send, start returns nil, because the client resends the call
// later.
func (c *Client) start(ctx context.Context, k *call) error {
	for {
		l, err := c.acquireLink(ctx)
		if err != nil {
			return err
		}
		wait, err := c.assignNumbers(ctx, l, k)
		if err != nil {
			<-l.writeToken
			return err
		}
		if wait == nil {
			c.dropPops(ctx, l)
			k.writeMu.Lock()
			_ = l.send(ctx, k) // after an error, the link's reader makes the client resend the call
			k.writeMu.Unlock()
			<-l.writeToken
			return nil
		}
		<-l.writeToken
		if err := canceled.Wait(ctx, wait); err != nil {
			return err
		}
	}
}

// acquireLink waits for a connection and for its writeToken, the right to write to it.
func (c *Client) acquireLink(ctx context.Context) (*link, error) {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil, partd.ErrClosed
		}
		l := c.link
		var current *attempt
		if l == nil {
			current = c.startAttempt()
		}
		c.mu.Unlock()
		if l == nil {
			if err := canceled.Wait(ctx, current.done); err != nil {
				return nil, err
			}
			if current.err != nil {
				return nil, current.err
			}
			continue
		}
		select {
		case l.writeToken <- struct{}{}:
			if !l.dead.Load() {
				return l, nil
			}
			<-l.writeToken
			<-l.done
		case <-l.done:
		case <-ctx.Done():
			return nil, canceled.Err(ctx)
		}
	}
}

// assignNumbers assigns k its numbers. k is the next call to be sent over l. The caller must hold
// l.writeToken. If k must wait first, assignNumbers returns a channel that is closed when the caller
// may try again.
func (c *Client) assignNumbers(ctx context.Context, l *link, k *call) (wait <-chan struct{}, err error) {
	if err := l.checkSize(k); err != nil {
		return nil, err
	}
	if k.isNumbered || k.isPop {
		err := c.ensureSession(ctx, l)
		switch {
		case err == nil:
		case k.op == opDrop && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)):
			// The store has no space for a session, but Drop would free space. So send Drop
			// without a session, and only over this connection.
			k.isNumbered, k.boundLink, k.session, k.seq = false, l, 0, 0
		default:
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, partd.ErrClosed
	case k.boundLink != nil && k.boundLink != l:
		return nil, fmt.Errorf("%w (the connection broke)", ErrLost)
	case c.link != l:
		return l.done, nil
	case (k.isNumbered || k.isPop) && c.ops.session == 0:
		closed := make(chan struct{}) // the session was lost, so the caller must try again at once
		close(closed)
		return closed, nil
	case k.isNumbered:
		if c.ops.allAnswered != nil {
			return c.ops.allAnswered, nil
		}
		k.session, k.seq = c.ops.session, c.ops.next
		c.ops.next++
		c.ops.unanswered++
	case k.isPop: // a pop names the server process to which it was first sent
		c.ops.lastPop++
		k.session, k.seq = c.ops.session, c.ops.lastPop
		k.setU64(k.instanceOffset, l.instance)
	}
	c.register(k)
	k.sendCount, k.link = 1, l
	return nil, nil
}

// abandon gives up a call whose context has ended. A change that was sent keeps its number,
// because later changes, which may already be sent, have the next numbers.
func (c *Client) abandon(ctx context.Context, k *call) error {
	c.mu.Lock()
	if k.finished {
		c.mu.Unlock()
		return nil
	}
	k.abandoned = true
	err := canceled.Err(ctx)
	if k.isNumbered || k.isPop || k.op.isChange() {
		err = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)
	}
	if !k.isNumbered {
		delete(c.calls, k.number)
	}
	l := k.link
	c.mu.Unlock()
	if len(k.refs) > 0 {
		// If a goroutine is still writing the caller's memory, break the connection to stop it.
		if !k.writeMu.TryLock() {
			l.abort()
			k.writeMu.Lock()
		}
		k.refs, k.bytes = nil, 0 // resend does not send the body of an abandoned call
		k.writeMu.Unlock()
	}
	return err
}

// complete ends a call with err, which may be nil. mu must be held.
func (c *Client) complete(k *call, err error) {
	if k.finished {
		return
	}
	delete(c.calls, k.number)
	k.finished, k.err = true, err
	close(k.done)
}

func (c *Client) failAll(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.calls {
		if k.isNumbered || k.isPop || k.op.isChange() {
			c.complete(k, fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err))
		} else {
			c.complete(k, err)
		}
	}
	c.ops.renew()
}

// handleReply completes the call that a reply belongs to. If owned is true, the call may keep body
// without copying it. After an error, the connection must end.
func (c *Client) handleReply(l *link, r reply, body []byte, owned bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.useful, c.uselessSince, c.backoff = true, time.Time{}, 0
	k := c.calls[r.number]
	if k == nil {
		return nil // abandoned
	}
	if k.op != r.op && !k.abandoned {
		return fmt.Errorf("the server answered %s with %s", k.op, r.op)
	}
	var err error
	if r.status != statusOK {
		err = parseError(body, k.op.String(), c.url)
	} else {
		if !owned {
			body = slices.Clone(body)
		}
		k.reply, k.replyFlags = body, r.flags
	}
	if k.isNumbered {
		c.ops.handleReply(c, k, err)
		return nil
	}
	if k.op.isChange() && k.sendCount > 1 && errors.Is(err, partd.ErrSessionExpired) {
		err = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err) // the first send may have been applied
	}
	c.complete(k, err)
	return nil
}
