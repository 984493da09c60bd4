package remote

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-partd/partd"
)

// request answers a message in the Go client's protocol. If it returns an error, the caller must end
// the connection.
func (c *conn) request(frames [][]byte) error {
	if len(frames) != 1 {
		return fmt.Errorf("a request has %d frames instead of one", len(frames))
	}
	r, body, err := parseRequest(frames[0])
	if err != nil {
		return err
	}
	m := c.meters.meter(r.op)
	r.arrived = time.Now()
	m.received.Add(int64(len(frames[0])))
	r.received, r.keys = int64(len(frames[0])), r.op.keysIn(body)
	s := r.op.service()
	if r.op != opHello {
		err := errors.Join(c.bindDefault(), c.requireRights(s.anyOf, r.op.String()))
		r.user, r.namespace = c.user.User, c.namespace
		if err != nil {
			return c.fail(r, err)
		}
	}
	if ks := c.sessions.open[r.session]; r.session != 0 && !s.anySession && (ks == nil || ks.ended.Load()) {
		return c.fail(r, r.notOpenError())
	}
	if s.cost != immediate {
		c.hasRequested.Store(true)
	}
	allowance := c.newAllowance()
	d := &decoder{b: body, allowance: allowance}
	f, err := s.prepare(c, r, d)
	if err == nil && d.end() != nil { // the body is incomplete, or longer than the operation expects
		err = fmt.Errorf("%w: %s: %w", ErrBadRequest, r.op, d.err)
	}
	if err != nil {
		allowance.release()
		return c.fail(r, err)
	}
	_, streams := c.space.store.(partd.Opener)
	if s.cost == immediate || r.op == opGet && !streams { // a store that cannot stream has all values in memory, so get is fast
		defer allowance.release()
		return c.answerWith(r, f)
	}
	if s.cost == inTurn {
		f = c.withTurn(f)
	}
	return c.answerAsync(r, allowance, f)
}

func (r request) notOpenError() error {
	if r.op == opPopRead || r.op == opPop && r.flags&flagResent != 0 {
		return fmt.Errorf("session %d: pop %d: the session is not open on this connection: %w", r.session, r.seq, partd.ErrUnknownOutcome)
	}
	return fmt.Errorf("session %d: the session is not open on this connection: %w", r.session, partd.ErrSessionExpired)
}

// fail answers with an error.
func (c *conn) fail(r request, err error) error {
	return c.answerWith(r, func(*answerBuilder) error { return err })
}

// answerWith sends the answer that f builds or, if f fails, an answer with f's error. If it returns
// an error, the caller must end the connection.
func (c *conn) answerWith(r request, f answerFunc) error {
	a := c.newAnswer()
	defer a.drop()
	c.account.preparing.Add(1)
	status, err := uint8(statusOK), f(a)
	c.account.preparing.Add(-1)
	defer func() { c.auditRequest(r, a.size(), err) }()
	if errors.Is(err, errSuperseded) || c.ctx.Err() != nil && isCancelled(err) {
		return err // send no answer, so that the client resends the request over another connection
	}
	defer func() { c.meters.meter(r.op).observe(r.arrived, err != nil) }()
	if err != nil {
		c.logFault(slog.LevelWarn, "a request failed", err, "operation", r.op.String())
		a.builder, a.flags, status = builder{buf: a.buf[:headerSpace]}, 0, statusError
		a.buf = appendError(a.buf, err)
	}
	if r.number == 0 {
		return nil
	}
	return c.write(a.parts(reply{op: r.op, status: status, number: r.number})...)
}

// answerAsync answers in another goroutine, which then releases the allowance. If too many requests
// are being answered, it waits.
func (c *conn) answerAsync(r request, allowance *allowance, f answerFunc) error {
	if err := c.reads.acquire(c.ctx); err != nil {
		allowance.release()
		return err
	}
	c.running.Go(func() {
		defer allowance.release()
		defer c.reads.release()
		if err := c.answerWith(r, f); err != nil {
			c.abort()
		}
	})
	return nil
}

// withTurn returns an answerFunc that calls f with one of the tenant's permits for slow operations.
func (c *conn) withTurn(f answerFunc) answerFunc {
	return func(a *answerBuilder) error {
		if err := c.tenant.turns.acquire(c.ctx); err != nil {
			return err
		}
		defer c.tenant.turns.release()
		return f(a)
	}
}
