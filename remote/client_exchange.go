package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/storeerror"
)

// exchange sends a client's calls over one connection. If the connection breaks, exchange opens
// another one and resends the unanswered calls.
type exchange struct {
	dialer
	proofs proofs

	life       context.Context // ends when the client is closed
	cancelLife context.CancelFunc

	mu         sync.Mutex // locked after a link's writeToken and a call's writeMu, before proofs.mu
	closed     bool
	link       *link    // nil while there is no connection
	attempt    *attempt // the attempt to connect in progress, or nil
	outage     outage
	instance   uint64 // identifies the server process of the last connection
	maxMessage int64  // message limit of the last connection
	restarts   uint64 // number of times that instance has changed
	calls      callTable
}

const closeTimeout = 2 * time.Second // limit for ending the session or closing a reader on the server

// begin opens the first connection.
func (x *exchange) begin(ctx context.Context) error {
	x.calls.unanswered, x.proofs.bySession = map[uint64]*call{}, map[uint64]*proof{}
	x.life, x.cancelLife = context.WithCancel(context.Background())
	l, err := x.connect(ctx, 0, &x.proofs)
	if err == nil {
		go x.readReplies(l)
		err = x.useLink(l)
	}
	if err != nil {
		x.cancelLife()
		return &partd.Error{Op: "dial", Path: x.url, Err: err}
	}
	return nil
}

// end ends the session, closes the connection and fails the calls in progress.
func (x *exchange) end() {
	x.mu.Lock()
	if x.closed || x.calls.unanswered == nil {
		x.mu.Unlock()
		return
	}
	x.closed = true
	l, session := x.link, x.calls.ops.session
	x.mu.Unlock()
	if l != nil {
		x.endOwnSession(l, session)
	}
	x.cancelLife()
	x.mu.Lock()
	current := x.attempt
	x.mu.Unlock()
	if current != nil {
		<-current.done
	}
	x.mu.Lock()
	l = x.link
	x.mu.Unlock()
	if l != nil {
		l.abort()
		<-l.done
	}
	x.failAll(partd.ErrClosed)
}

func (x *exchange) checkUsable(ctx context.Context) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.calls.unanswered == nil {
		return storeerror.ErrNotOpened
	}
	if x.closed {
		return partd.ErrClosed
	}
	return canceled.Err(ctx)
}

// forget removes a call, so that its answer is ignored.
func (x *exchange) forget(req *call) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.calls.unanswered, req.number)
}

func (x *exchange) failAll(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.calls.failAll(err)
}

// do sends a call and waits for its answer. When do returns, req no longer uses the caller's memory.
// req itself may be reused only after success: an abandoned change still awaits its answer.
func (x *exchange) do(ctx context.Context, req *call) error {
	if err := x.checkUsable(ctx); err != nil {
		return err
	}
	for {
		err := x.start(ctx, req)
		if err == nil {
			err = x.wait(ctx, req)
		}
		if errors.Is(err, ErrLost) && ctx.Err() != nil {
			return canceled.Err(ctx) // the cancellation of ctx may have broken the connection
		}
		if err != nil || !req.mustRenumber {
			return err
		}
		req.mustRenumber, req.finished, req.sendCount, req.done = false, false, 0, make(chan struct{})
	}
}

func (x *exchange) simpleCall(ctx context.Context, op operation) error {
	req := newCall(op)
	err := x.do(ctx, req)
	if err == nil {
		req.recycle()
	}
	return x.wrapError(op.String(), err)
}

// wait waits for the answer to a call that was started.
func (x *exchange) wait(ctx context.Context, req *call) error {
	select {
	case <-req.done:
	case <-ctx.Done():
		if err := x.abandon(ctx, req); err != nil {
			return err
		}
	}
	// Another goroutine may still be resending the call. Wait for that goroutine, because the
	// caller may reuse the call's memory once wait has returned.
	req.writeMu.Lock()
	defer req.writeMu.Unlock()
	return req.err
}

// start assigns a call its numbers and sends it. If start returns an error, the call was not sent.
// If the connection breaks during the send, start returns nil, because the client resends the call
// later.
func (x *exchange) start(ctx context.Context, req *call) error {
	for {
		l, err := x.acquireLink(ctx)
		if err != nil {
			return err
		}
		wait, err := x.assignNumbers(ctx, l, req)
		if err != nil {
			<-l.writeToken
			return err
		}
		if wait == nil {
			x.confirmPops(ctx, l)
			req.writeMu.Lock()
			rest, _ := l.sendUntil(ctx, req) // after an error, the link's reader makes the client resend the call
			req.writeMu.Unlock()
			l.finish(rest)
			return nil
		}
		<-l.writeToken
		if err := canceled.Wait(ctx, wait); err != nil {
			return err
		}
	}
}

// acquireLink waits for a connection and for its writeToken, the right to write to it.
func (x *exchange) acquireLink(ctx context.Context) (*link, error) {
	for {
		x.mu.Lock()
		if x.closed {
			x.mu.Unlock()
			return nil, partd.ErrClosed
		}
		l := x.link
		var current *attempt
		if l == nil {
			current = x.startAttempt()
		}
		x.mu.Unlock()
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

// assignNumbers numbers req, the next call to be sent over l. l.writeToken must be held. If req must
// wait first, assignNumbers returns a channel that is closed when the caller may try again.
func (x *exchange) assignNumbers(ctx context.Context, l *link, req *call) (wait <-chan struct{}, err error) {
	if err := l.checkSize(req); err != nil {
		return nil, err
	}
	if req.isNumbered || req.isPop {
		err := x.ensureSession(ctx, l)
		switch {
		case err == nil:
		case req.op == opDrop && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)):
			// The store has no space for a session, but Drop frees space. So send Drop without a
			// session and only over this connection.
			req.isNumbered, req.boundLink, req.session, req.seq = false, l, 0, 0
		default:
			return nil, err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.closed:
		return nil, partd.ErrClosed
	case req.boundLink != nil && req.boundLink != l:
		return nil, fmt.Errorf("%w (the connection broke)", ErrLost)
	case x.link != l:
		return l.done, nil
	}
	if req.isNumbered || req.isPop { // a pop names the server process to which it was first sent
		if mustWait := x.calls.ops.assign(req, l.instance); mustWait != nil {
			return mustWait, nil
		}
	}
	x.calls.register(req)
	req.sendCount, req.link = 1, l
	return nil, nil
}

// abandon gives up a call whose context has ended. A change that was sent keeps its number,
// because later changes, which may already be sent, have the next numbers.
func (x *exchange) abandon(ctx context.Context, req *call) error {
	x.mu.Lock()
	if req.finished {
		x.mu.Unlock()
		return nil
	}
	req.abandoned = true
	err := req.lostError(canceled.Err(ctx))
	if !req.isNumbered {
		delete(x.calls.unanswered, req.number)
	}
	l := req.link
	x.mu.Unlock()
	if len(req.refs) > 0 {
		// If a goroutine is still sending from the caller's memory, break the connection to stop it.
		if !req.writeMu.TryLock() {
			l.abort()
			req.writeMu.Lock()
		}
		req.refs, req.bytes = nil, 0 // resend does not send the body of an abandoned call
		req.writeMu.Unlock()
	}
	return err
}
