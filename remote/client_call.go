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
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/zmtp"
)

// call is a request with what becomes of it.
type call struct {
	request
	builder

	numbered bool  // gets a number of the session
	popping  bool  // gets a number of the pops
	instance int   // where in the body of a pop the server's instance stands
	bound    *link // the connection that it is of, nil if any will do

	// writing is held while the body is being written. It is taken before the
	// client's mu.
	writing sync.Mutex

	// The rest is guarded by the client's mu, until done.
	sends     int   // connections that it was sent over
	via       *link // the last of them
	abandoned bool  // nobody waits any more
	finished  bool
	done      chan struct{}
	err       error
	again     bool   // it was not applied, and is to be numbered anew
	got       uint8  // flags of the reply
	reply     []byte // its body, the caller's own
}

func newCall(op operation) *call {
	return &call{request: request{op: op}, builder: newBuilder(), done: make(chan struct{})}
}

func (k *call) parts() [][]byte {
	var head [headRoom]byte
	return k.frame(k.request.append(zmtp.AppendHeader(head[:0], requestLen+k.size(), false)))
}

// register numbers a call. mu is held.
func (c *Client) register(k *call) {
	c.last++
	k.number = c.last
	c.calls[k.number] = k
}

func (k *call) forget(c *Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, k.number)
}

// do sends a call and waits for its answer. What the call refers to is no longer
// in use when it returns.
func (c *Client) do(ctx context.Context, k *call) error {
	if err := c.usable(ctx); err != nil {
		return err
	}
	for {
		err := c.start(ctx, k)
		if err == nil {
			err = c.wait(ctx, k)
		}
		if errors.Is(err, ErrLost) && ctx.Err() != nil {
			return canceled.Err(ctx) // which may be why the connection broke
		}
		if err != nil || !k.again {
			return err
		}
		k.again, k.finished, k.sends, k.done = false, false, 0, make(chan struct{})
	}
}

func (c *Client) wait(ctx context.Context, k *call) error {
	select {
	case <-k.done:
	case <-ctx.Done():
		if err := c.leave(ctx, k); err != nil {
			return err
		}
	}
	// It may be that who sent it again has not returned from writing: what the
	// call refers to is the caller's from here on.
	k.writing.Lock()
	defer k.writing.Unlock()
	return k.err
}

// start gives a call its numbers, in the order of sending, and sends it. An error
// means that it was not sent. A connection that breaks while it is sent is not
// one: it is sent again.
func (c *Client) start(ctx context.Context, k *call) error {
	for {
		l, err := c.acquire(ctx)
		if err != nil {
			return err
		}
		wait, err := c.number(ctx, l, k)
		if err != nil {
			<-l.token
			return err
		}
		if wait == nil {
			c.dropPops(ctx, l)
			k.writing.Lock()
			_ = l.send(ctx, k) // its reader notices, and the call is sent again
			k.writing.Unlock()
			<-l.token
			return nil
		}
		<-l.token
		if err := canceled.Wait(ctx, wait); err != nil {
			return err
		}
	}
}

// acquire waits for a connection and the right to write to it.
func (c *Client) acquire(ctx context.Context) (*link, error) {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil, partd.ErrClosed
		}
		l := c.link
		var at *attempt
		if l == nil {
			at = c.startAttempt()
		}
		c.mu.Unlock()
		if l == nil {
			if err := canceled.Wait(ctx, at.done); err != nil {
				return nil, err
			}
			if at.err != nil {
				return nil, at.err
			}
			continue
		}
		select {
		case l.token <- struct{}{}:
			if !l.dead.Load() {
				return l, nil
			}
			<-l.token
			<-l.ended
		case <-l.ended:
		case <-ctx.Done():
			return nil, canceled.Err(ctx)
		}
	}
}

// number registers a call to be sent now, by the holder of the token. Where it
// has to wait first, it returns what for.
func (c *Client) number(ctx context.Context, l *link, k *call) (wait <-chan struct{}, err error) {
	if k.numbered || k.popping {
		err := c.needSession(ctx, l)
		switch {
		case err == nil:
		case k.op == opDrop && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)):
			// The store has no room for a session, and this is what makes room. It
			// goes without a number, once, over this connection.
			k.numbered, k.bound, k.session, k.seq = false, l, 0, 0
		default:
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, partd.ErrClosed
	case k.bound != nil && k.bound != l:
		return nil, fmt.Errorf("%w (the connection broke)", ErrLost)
	case c.link != l:
		return l.ended, nil
	case (k.numbered || k.popping) && c.ops.session == 0:
		lost := make(chan struct{}) // in between: begin anew, at once
		close(lost)
		return lost, nil
	case k.numbered:
		if c.ops.settled != nil {
			return c.ops.settled, nil
		}
		k.session, k.seq = c.ops.session, c.ops.next
		c.ops.next++
		c.ops.waiting++
	case k.popping: // the body says which server it is sent to first
		c.ops.lastPop++
		k.session, k.seq = c.ops.session, c.ops.lastPop
		putU64(k.buf[k.instance:], l.instance)
	}
	c.register(k)
	k.sends, k.via = 1, l
	return nil, nil
}

// leave gives a call up, as its context has ended. A change that was sent keeps
// its number: another with the next one may be on its way.
func (c *Client) leave(ctx context.Context, k *call) error {
	c.mu.Lock()
	if k.finished {
		c.mu.Unlock()
		return nil
	}
	k.abandoned = true
	err := canceled.Err(ctx)
	if k.numbered || k.popping || k.op.mutates() {
		err = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)
	}
	if !k.numbered {
		delete(c.calls, k.number)
	}
	l := k.via
	c.mu.Unlock()
	if len(k.refs) > 0 {
		// The caller's memory may be on its way at this moment.
		if !k.writing.TryLock() {
			l.abort()
			k.writing.Lock()
		}
		k.refs, k.bytes = nil, 0 // it is sent no more
		k.writing.Unlock()
	}
	return err
}

// complete ends a call. mu is held.
func (c *Client) complete(k *call, err error) {
	if k.finished {
		return
	}
	delete(c.calls, k.number)
	k.finished, k.err = true, err
	close(k.done)
}

// failAll ends all calls, as there is no connection and will be none.
func (c *Client) failAll(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.calls {
		if k.numbered || k.popping || k.op.mutates() {
			c.complete(k, fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err))
		} else {
			c.complete(k, err)
		}
	}
	c.ops.renew()
}

// handleReply takes a reply. Its error ends the connection.
func (c *Client) handleReply(l *link, r reply, body []byte, owned bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.useful, c.stuck, c.backoff = true, time.Time{}, 0
	k := c.calls[r.number]
	if k == nil {
		return nil // given up
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
		k.reply, k.got = body, r.flags
	}
	if k.numbered {
		c.ops.handleReply(c, k, err)
		return nil
	}
	if k.op.mutates() && k.sends > 1 && errors.Is(err, partd.ErrSessionExpired) {
		err = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err) // it may have been applied when it was sent first
	}
	c.complete(k, err)
	return nil
}
