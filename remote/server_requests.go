package remote

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-partd/partd"
)

// request answers a message of the Go client's protocol. If it returns an error, the connection must
// end.
func (c *conn) request(frames [][]byte) error {
	if len(frames) != 1 {
		return fmt.Errorf("a request has %d frames instead of one", len(frames))
	}
	r, body, err := parseRequest(frames[0])
	if err != nil {
		return err
	}
	m := c.server.meters.meter(r.op)
	r.arrived = time.Now()
	m.received.Add(int64(len(frames[0])))
	r.received, r.keys = int64(len(frames[0])), r.op.keysIn(body)
	s := r.op.service()
	if r.op != opHello {
		err := errors.Join(c.bindDefault(), c.requireRights(s.needs, r.op.String()))
		r.user, r.namespace = c.access.user.User, c.namespace
		if err != nil {
			return c.fail(r, err)
		}
	}
	if x := c.openSessions[r.session]; r.session != 0 && !s.anySession && (x == nil || x.ended.Load()) {
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
	if s.cost == immediate || r.op == opGet && !streams { // a store that does not stream has all values in memory, so get is fast
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
	return c.answerWith(r, func(*answer) error { return err })
}

// answerWith answers with what f adds to the answer or, if f fails, with f's error. If it returns an
// error, the connection must end.
func (c *conn) answerWith(r request, f fill) error {
	a := c.newAnswer()
	defer a.drop()
	c.account.filling.Add(1)
	status, err := uint8(statusOK), f(a)
	c.account.filling.Add(-1)
	defer func() { c.auditRequest(r, a.size(), err) }()
	if errors.Is(err, errSuperseded) || c.ctx.Err() != nil && isCancelled(err) {
		return err // send no answer, so that the client repeats the request over another connection
	}
	defer func() { c.server.meters.meter(r.op).observe(r.arrived, err != nil) }()
	if err != nil {
		c.logFault(slog.LevelWarn, "a request failed", err, "operation", r.op.String())
		a.builder, a.flags, status = builder{buf: a.buf[:headRoom]}, 0, statusError
		a.buf = appendError(a.buf, err)
	}
	if r.number == 0 {
		return nil
	}
	return c.write(a.parts(reply{op: r.op, status: status, number: r.number})...)
}

// answerAsync answers in another goroutine, and then releases the allowance. If too many requests
// are being answered, it waits.
func (c *conn) answerAsync(r request, allowance *allowance, f fill) error {
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

// enterLarge waits until the peer has no other change with many keys running. Call it before taking
// memory for the change, because the running change may need that memory.
func (c *conn) enterLarge() error {
	c.account.addWaits(1)
	defer c.account.addWaits(-1)
	return c.tenant.large.acquire(c.ctx)
}

// withTurn returns a fill that waits for one of the tenant's permits for slow operations, and then
// calls f.
func (c *conn) withTurn(f fill) fill {
	return func(a *answer) error {
		if err := c.tenant.turns.acquire(c.ctx); err != nil {
			return err
		}
		defer c.tenant.turns.release()
		return f(a)
	}
}

// change applies a change before the next message is read, because a session's changes must be
// applied in order.
func (c *conn) change(r request, d *decoder) (fill, error) {
	body, allowance := d.remaining(), d.allowance
	return func(a *answer) error {
		if cap(a.buf) > uncharged { // hold no large recycled buffer while the change runs: the answer has no body
			a.drop()
			a.builder = builder{buf: make([]byte, headRoom, 4<<10)}
		}
		if len(body) >= 4 && binary.LittleEndian.Uint32(body) > manyKeys { // the number of items, as the client claims
			if err := c.enterLarge(); err != nil {
				return err
			}
			defer c.tenant.large.release()
		}
		op, err := c.parseChange(r.op, body, allowance)
		if err != nil {
			return err
		}
		c.hasRequested.Store(true)
		c.account.working.Add(1)
		defer c.account.working.Add(-1)
		applied, err := c.apply(partd.Tag{Session: r.session, Number: r.seq, CRC: r.crc}, op)
		if !applied {
			a.flags |= flagKnown
		}
		return err
	}, nil
}

// apply applies a change, exactly once if it belongs to a session.
func (c *conn) apply(tag partd.Tag, op partd.Operation) (applied bool, err error) {
	s, base := c.space, c.server.base
	defer func() {
		if cap(c.entries) > 16<<10 { // do not keep the memory of a large batch
			c.entries = nil
		}
		clear(c.entries)
	}()
	if tag.Session == 0 {
		applied, err = withinLimit(s.sessions.limit, op, func() (bool, error) { return true, op.Do(base, s.store) })
	} else {
		applied, err = s.sessions.apply(base, c, tag, op)
	}
	s.changes.Add(1) // before answering, so that a stat after the answer includes the change
	c.server.recordChange(s, op.Change, err)
	return applied, err
}

func (c *conn) parseChange(change operation, body []byte, allowance *allowance) (partd.Operation, error) {
	d := &decoder{b: body, allowance: allowance}
	op := partd.Operation{Change: change.change()}
	switch change {
	case opAppend, opSet, opSetOnce:
		op.Entries = d.entries(c.entries)
		c.entries = op.Entries
	case opDelete:
		op.Keys = d.keys()
	}
	if err := d.end(); err != nil {
		return op, fmt.Errorf("%w: %s: %w", ErrBadRequest, change, err)
	}
	if change == opSet || change == opSetOnce {
		if len(op.Entries) != 1 {
			return op, fmt.Errorf("%w: %s with %d entries instead of one", ErrBadRequest, change, len(op.Entries))
		}
		// Copy the key, which points into the message, because the store may keep the key. Only
		// Append promises not to keep keys.
		op.Entries[0].Key = strings.Clone(op.Entries[0].Key)
	}
	return op, nil
}
