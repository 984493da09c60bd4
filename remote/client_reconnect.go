package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
)

const (
	firstBackoff = 10 * time.Millisecond
	lastBackoff  = time.Second
)

// outage describes how connections have failed since the last answer arrived.
type outage struct {
	since   time.Time     // zero if the last connection delivered an answer
	backoff time.Duration // pause before the next attempt to connect
	err     error         // error from the last connection that delivered no answer
}

// record records that a connection failed without delivering an answer.
func (o *outage) record(err error) {
	o.err = err
	if o.since.IsZero() { // no pause after the first failure, which may be a one-off
		o.since = time.Now()
		return
	}
	o.backoff = min(max(firstBackoff, 2*o.backoff), lastBackoff)
}

// pause returns how long to wait before connecting, or an error if the client should give up.
func (o *outage) pause(retryFor time.Duration) (time.Duration, error) {
	if !o.since.IsZero() && (time.Since(o.since) > retryFor || errors.Is(o.err, errHello) || errors.Is(o.err, errRefused)) {
		return 0, o.err
	}
	// Add jitter, because many clients can lose the server at the same time.
	return o.backoff/2 + rand.N(o.backoff/2+1), nil
}

// attempt is an attempt to connect, shared by all calls waiting for it.
type attempt struct {
	done chan struct{}
	err  error // valid once done is closed
}

// startAttempt starts to reconnect, or returns the attempt in progress. mu must be held.
func (x *exchange) startAttempt() *attempt {
	if x.attempt == nil {
		x.attempt = &attempt{done: make(chan struct{})}
		go x.reconnect(x.attempt)
	}
	return x.attempt
}

// reconnect connects, resends unanswered calls and then admits new calls. A connection that ends
// before it delivers an answer counts as a failed attempt. Otherwise the client would forever resend
// a request that makes the server hang up.
func (x *exchange) reconnect(current *attempt) {
	for {
		x.mu.Lock()
		wait, err := x.outage.pause(x.opts.RetryFor)
		x.mu.Unlock()
		if err != nil {
			x.giveUp(current, err)
			return
		}
		if canceled.Wait(x.life, time.After(wait)) != nil {
			x.giveUp(current, partd.ErrClosed)
			return
		}
		err = x.connectAndResend(x.life, current)
		if err == nil {
			return
		}
		x.opts.Logger.Debug("cannot connect", "server", x.url, "error", err)
		x.mu.Lock()
		x.outage.record(err)
		x.mu.Unlock()
	}
}

// connectAndResend makes one attempt to connect and to resend all unanswered calls.
func (x *exchange) connectAndResend(ctx context.Context, current *attempt) error {
	if err := canceled.Err(ctx); err != nil {
		return err
	}
	x.mu.Lock()
	session := x.calls.ops.session
	x.mu.Unlock()
	l, err := x.connect(ctx, session, &x.proofs)
	if err != nil {
		return err
	}
	go x.readReplies(l)
	x.handleRestart(l)
	x.mu.Lock()
	unanswered := slices.SortedFunc(maps.Values(x.calls.unanswered), func(a, b *call) int { return cmp.Compare(a.number, b.number) })
	x.mu.Unlock()
	for _, req := range unanswered {
		if err := x.resend(l, req); err != nil {
			<-l.done
			return err
		}
	}
	if err := x.useLink(l); err != nil {
		return err
	}
	close(current.done)
	return nil
}

// resend resends a call over a new connection. It replaces an abandoned change by an empty change with
// the same number, because the server rejects changes that follow a missing number.
func (x *exchange) resend(l *link, req *call) error {
	req.writeMu.Lock()
	defer req.writeMu.Unlock()
	x.mu.Lock()
	if req.finished || x.calls.unanswered[req.number] != req {
		x.mu.Unlock()
		return nil
	}
	if err := l.checkSize(req); err != nil && !req.abandoned { // the new server process has a smaller message limit
		x.calls.settle(req, req.lostError(err))
		x.mu.Unlock()
		return nil
	}
	req.sendCount++
	req.link = l
	abandoned := req.abandoned
	if req.isPop {
		req.flags |= flagResent
	}
	x.mu.Unlock()
	if !abandoned {
		return l.send(x.life, req)
	}
	empty := newCall(opAppend)
	defer empty.recycle()
	empty.request = req.request
	empty.op, empty.flags = opAppend, 0
	empty.u32(0)
	empty.crc = checksum(opAppend, empty.body()...)
	return l.send(x.life, empty)
}

// useLink makes new calls use a connection and releases its writeToken.
func (x *exchange) useLink(l *link) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if l.dead.Load() {
		return errors.New("the connection broke immediately")
	}
	x.link, x.instance, x.maxMessage, x.attempt = l, l.instance, l.maxMessage, nil
	<-l.writeToken
	return nil
}

// handleRestart ends the session if it was lost with the previous server process.
func (x *exchange) handleRestart(l *link) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if l.instance != x.instance && !x.calls.ops.storeKeeps {
		x.calls.loseSession()
	}
	if l.instance != x.instance {
		x.restarts++
	}
	x.instance = l.instance
}

func (x *exchange) giveUp(current *attempt, err error) {
	if x.life.Err() != nil {
		err = partd.ErrClosed
	} else {
		x.opts.Logger.Warn("gave up connecting", "server", x.url, "error", err)
		err = fmt.Errorf("no connection to the server: %w", err)
	}
	x.mu.Lock()
	current.err = err
	x.attempt = nil
	x.outage = outage{}
	close(current.done)
	x.mu.Unlock()
	x.failAll(err)
}

// readReplies handles the replies that arrive over a connection until the connection breaks.
func (x *exchange) readReplies(l *link) {
	var err error
	for err == nil {
		err = x.readReply(l)
	}
	l.abort()
	l.reader.Close()
	x.handleLoss(l, err)
	close(l.done)
}

func (x *exchange) readReply(l *link) error {
	frame, owned, err := l.reader.NextFrame()
	if err != nil {
		return err
	}
	r, body, err := parseReply(frame)
	if err != nil {
		return fmt.Errorf("cannot decode the server's answer: %w", err)
	}
	return x.handleReply(l, r, body, owned)
}

// handleReply completes the call that a reply belongs to. If owned is true, the call may keep body
// without copying it. After an error, the caller must end the connection.
func (x *exchange) handleReply(l *link, r reply, body []byte, owned bool) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	l.hasAnswered, x.outage = true, outage{}
	req := x.calls.unanswered[r.number]
	if req == nil {
		return nil // abandoned
	}
	if req.op != r.op && !req.abandoned {
		return fmt.Errorf("the server answered %s with %s", req.op, r.op)
	}
	var err error
	if r.status != statusOK {
		err = parseError(body, req.op.String(), x.url)
	} else {
		if !owned {
			body = slices.Clone(body)
		}
		req.reply, req.replyFlags = body, r.flags
	}
	if !req.isNumbered && req.op.isChange() && req.sendCount > 1 && errors.Is(err, partd.ErrSessionExpired) {
		err = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err) // the first send may have been applied
	}
	x.calls.settle(req, err)
	return nil
}

// handleLoss handles the end of a connection. If calls are waiting for answers, it starts to
// reconnect.
func (x *exchange) handleLoss(l *link, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.link != l {
		return // no calls were sent over l
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // io.EOF would look like the end of a value
	}
	x.link = nil
	if !l.hasAnswered {
		x.outage.record(err)
	}
	x.calls.failBound(l, err)
	if !x.closed {
		x.opts.Logger.Debug("connection lost", "server", x.url, "error", err, "unanswered", len(x.calls.unanswered))
		if len(x.calls.unanswered) > 0 {
			x.startAttempt()
		}
	}
}
