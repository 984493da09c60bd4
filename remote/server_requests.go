package remote

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/go-partd/partd"
)

// request answers a message of the Go client's protocol. Its error ends the
// connection.
func (c *conn) request(frames [][]byte) error {
	if len(frames) != 1 {
		return fmt.Errorf("a request of %d frames, it has one", len(frames))
	}
	r, body, err := parseRequest(frames[0])
	if err != nil {
		return err
	}
	if err := c.rights.check(r.op.need()); err != nil {
		return c.fail(r, err)
	}
	if r.flags&flagStaged != 0 && (r.op.mutates() || r.op == opPop) {
		defer c.upload.drop(c)
		if body, err = c.upload.take(body); err != nil {
			return c.fail(r, err)
		}
	}
	switch {
	case r.op == opHello:
		return c.hello(r, body)
	case r.op == opPing:
		return c.answerWith(r, func(a *answer) error { a.refer(body); return nil })
	case r.op == opKeepHandle:
		c.handles.keep(body)
		return c.result(r, nil, 0)
	case r.op == opSession:
		return c.beginSession(r, body)
	case r.session != 0 && c.used[r.session] == nil && r.op != opEndSession:
		return c.fail(r, r.notOpen())
	case r.op.mutates():
		return c.mutate(r, body)
	case r.op == opEndSession:
		return c.result(r, c.server.sessions.end(c.server.base, c, r.session), 0)
	case r.op == opPart:
		return c.result(r, c.upload.add(c, body), 0)
	case r.op == opPopDone:
		c.server.pops.done(r.session, r.seq)
		return c.result(r, nil, 0)
	}
	c.worked.Store(true)
	room := c.newAllowance()
	answerer, err := c.reading(r, body, room)
	if err != nil {
		room.release()
		return c.fail(r, err)
	}
	if _, streams := c.server.store.(partd.Opener); r.op == opGet && !streams {
		defer room.release()
		return c.answerWith(r, answerer) // its values are in memory: no waiting
	}
	return c.async(r, room, answerer)
}

// notOpen is the error for a request of a session that this connection has neither
// begun nor shown the token of.
func (r request) notOpen() error {
	if r.op == opPopRead || r.op == opPop && r.flags&flagResent != 0 {
		return fmt.Errorf("session %d: pop %d: the session is not open: %w", r.session, r.seq, partd.ErrUnknownOutcome)
	}
	return fmt.Errorf("session %d: it is not open: %w", r.session, partd.ErrSessionExpired)
}

// result answers with nothing or an error.
func (c *conn) result(r request, err error, flags uint8) error {
	if err != nil {
		return c.fail(r, err)
	}
	if r.number == 0 {
		return nil
	}
	var b [headRoom]byte
	h := append(b[:0], 0, replyLen)
	return c.write(reply{op: r.op, flags: flags, number: r.number}.append(h))
}

// fail answers with an error.
func (c *conn) fail(r request, err error) error {
	if errors.Is(err, errGivenUp) || c.server.base.Err() != nil && isCancelled(err) {
		return err // without an answer, so that the client asks again
	}
	c.logFault(slog.LevelDebug, "a request failed", err, "operation", r.op.String())
	if r.number == 0 {
		return nil
	}
	a := c.newAnswer()
	defer a.drop()
	a.buf = appendError(a.buf, err)
	return c.write(a.parts(reply{op: r.op, status: statusError, number: r.number})...)
}

// answerWith answers with what a function makes.
func (c *conn) answerWith(r request, fill func(a *answer) error) error {
	a := c.newAnswer()
	defer a.drop()
	if err := fill(a); err != nil {
		return c.fail(r, err)
	}
	if r.number == 0 {
		return nil
	}
	return c.write(a.parts(reply{op: r.op, number: r.number})...)
}

// async answers beside the connection's goroutine, which waits where too many
// requests are being answered. What the request takes is given back then.
func (c *conn) async(r request, room *allowance, fill func(a *answer) error) error {
	select {
	case c.reads <- struct{}{}:
	case <-c.ctx.Done():
		room.release()
		return c.ctx.Err()
	}
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		defer room.release()
		defer func() { <-c.reads }()
		if err := c.answerWith(r, fill); err != nil {
			c.abort() // its goroutine ends
		}
	}()
	return nil
}

// mutate makes a change, at once: those of a session have to be in order.
func (c *conn) mutate(r request, body []byte) error {
	room := c.newAllowance()
	defer room.release()
	op, err := c.parseChange(r.op, body, room)
	if err != nil {
		return c.fail(r, err)
	}
	defer c.clearEntries()
	c.worked.Store(true)
	c.account.working.Add(1)
	defer c.account.working.Add(-1)
	applied := true
	if r.session == 0 {
		err = change(c.server.base, c.server.store, op)
	} else {
		tag := partd.Tag{Session: r.session, Number: r.seq, CRC: r.crc}
		applied, err = c.server.sessions.apply(c.server.base, c, tag, op)
	}
	c.server.changes.Add(1) // before the answer
	c.server.changed(op.Change, err)
	var flags uint8
	if !applied {
		flags = flagKnown
	}
	return c.result(r, err, flags)
}

func (c *conn) parseChange(what operation, body []byte, room *allowance) (partd.Operation, error) {
	d := &decoder{b: body, room: room}
	var op partd.Operation
	switch what {
	case opAppend, opSet, opSetOnce:
		op.Entries = d.entries(c.entries)
		c.entries = op.Entries[:0]
	case opDelete:
		op.Keys = d.keys()
	}
	if err := d.end(); err != nil {
		return op, fmt.Errorf("%w: %s: %w", ErrBadRequest, what, err)
	}
	switch what {
	case opAppend:
		op.Change = partd.ChangeAppend
	case opSet, opSetOnce:
		op.Change = partd.ChangeSet
		if what == opSetOnce {
			op.Change = partd.ChangeSetOnce
		}
		if len(op.Entries) != 1 {
			return op, fmt.Errorf("%w: %s with %d entries, it has one", ErrBadRequest, what, len(op.Entries))
		}
		// Only of Append it is promised that the key is not kept.
		op.Entries[0].Key = strings.Clone(op.Entries[0].Key)
	case opDelete:
		op.Change = partd.ChangeDelete
	case opDrop:
		op.Change = partd.ChangeDrop
	}
	return op, nil
}

// reading returns what answers a request that only reads, or pops. What it
// needs of the message is copied.
func (c *conn) reading(r request, body []byte, room *allowance) (func(a *answer) error, error) {
	d := &decoder{b: body, room: room}
	var f func(a *answer) error
	ctx, store := c.ctx, c.server.store
	switch r.op {
	case opGet:
		keys := d.keys()
		f = func(a *answer) error { return c.get(a, keys) }
	case opOpen:
		key := d.key()
		f = func(a *answer) error { return c.openReader(a, key) }
	case opRead, opNext:
		id, step := d.u64(), d.u64()
		f = func(a *answer) error { return c.handles.read(a, id, step) }
	case opKeys:
		f = func(a *answer) error { return c.openKeys(a) }
	case opScan:
		// So that a share of the keys can be asked for when there are such.
		if part, parts := d.u32(), d.u32(); d.err == nil && (part != 0 || parts != 1) {
			return nil, fmt.Errorf("scan of part %d of %d: %w", part, parts, errors.ErrUnsupported)
		}
		f = func(a *answer) error { return c.openScan(a) }
	case opCloseHandle:
		id := d.u64()
		f = func(*answer) error { c.handles.remove(id); return nil }
	case opStat:
		f = c.inTurn(func(a *answer) error { return c.server.stat(ctx, a) })
	case opFlush:
		f = c.inTurn(func(*answer) error { return partd.Flush(ctx, store) })
	case opSync:
		f = c.inTurn(func(*answer) error { return partd.Sync(ctx, store) })
	case opVerify:
		f = func(a *answer) error { return c.server.verify(ctx, a) }
	case opPop:
		instance, keys := d.u64(), d.keys()
		if d.end() == nil {
			return c.pop(r, instance, keys, room)
		}
	case opPopRead:
		offset := d.u64()
		f = func(a *answer) error { return c.server.pops.read(a, r.session, r.seq, offset, c.page) }
	default:
		return nil, fmt.Errorf("%w: there is no %s", ErrBadRequest, r.op)
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrBadRequest, r.op, err)
	}
	return f, nil
}

// inTurn lets a request wait for its peer's turn.
func (c *conn) inTurn(f func(a *answer) error) func(a *answer) error {
	return func(a *answer) error {
		end, err := c.share.turn(c.ctx)
		if err != nil {
			return err
		}
		defer end()
		return f(a)
	}
}
