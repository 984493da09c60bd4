package remote

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/go-partd/partd"
)

// change applies a change before the next message is read, because a session's changes must be
// applied in order.
func (c *conn) change(r request, d *decoder) (answerFunc, error) {
	body, allowance := d.remaining(), d.allowance
	return func(a *answerBuilder) error {
		if cap(a.buf) > freeBytes { // the answer has no body, so hold no large recycled buffer while the change runs
			a.drop()
			a.builder = builder{buf: make([]byte, headerSpace, 4<<10)}
		}
		if len(body) >= 4 && binary.LittleEndian.Uint32(body) > manyKeys { // the number of items that the client claims
			if err := c.enterLarge(); err != nil {
				return err
			}
			defer c.tenant.large.release()
		}
		defer c.dropEntries()
		op, err := c.parseChange(r.op, body, allowance)
		if err != nil {
			return err
		}
		c.hasRequested.Store(true)
		c.account.pins.Add(1)
		defer c.account.pins.Add(-1)
		applied, err := c.apply(partd.Tag{Session: r.session, Number: r.seq, CRC: r.crc}, op)
		if !applied {
			a.flags |= flagKnown
		}
		return err
	}, nil
}

// apply applies a change. If the change belongs to a session, it is applied exactly once.
func (c *conn) apply(tag partd.Tag, op partd.Operation) (applied bool, err error) {
	s, ctx := c.space, c.changeCtx
	if tag.Session == 0 {
		applied, err = withinLimit(s.sessions.limit, op, func() (bool, error) { return true, op.Do(ctx, s.store) })
	} else {
		applied, err = s.sessions.apply(ctx, &c.sessions, tag, op)
	}
	s.changes.Add(1) // before the answer, so that a later stat includes the change
	c.server.recordChange(s, op.Change, err)
	return applied, err
}

// dropEntries clears the entries of a change, which point into its message. It frees the slice of a large batch.
func (c *conn) dropEntries() {
	if cap(c.entries) > 16<<10 {
		c.entries = nil
	}
	clear(c.entries)
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

// pop records a pop in order of arrival. The returned function runs the pop concurrently with other
// requests.
func (c *conn) pop(r request, d *decoder) (answerFunc, error) {
	s := c.space
	instance, keys, allowance := d.u64(), d.keys(), d.allowance
	switch {
	case d.end() != nil:
		return nil, nil // conn.request will return the error
	case r.session == 0:
		return nil, fmt.Errorf("%w: a pop without a session", ErrBadRequest)
	case instance != c.server.instance:
		return nil, fmt.Errorf("pop %d: the server has been restarted since the client sent it: %w", r.seq, partd.ErrUnknownOutcome)
	}
	s.sessions.use(c.sessions.open[r.session])
	result, err := s.pops.claim(c.tenant, r.session, r.seq, r.flags&flagResent != 0)
	if err != nil {
		return nil, err
	}
	return func(a *answerBuilder) error {
		result.once.Do(func() {
			values, err := s.popValues(c.changeCtx, allowance, keys)
			s.pops.finish(r.session, r.seq, result, values, err)
		})
		return result.wait(a, 0)
	}, nil
}

func (c *conn) popRead(r request, d *decoder) (answerFunc, error) {
	offset := d.u64()
	return func(a *answerBuilder) error {
		result := c.space.pops.find(r.session, r.seq)
		if result == nil {
			return fmt.Errorf("pop %d: its result is no longer kept: %w", r.seq, partd.ErrUnknownOutcome)
		}
		return result.wait(a, offset)
	}, nil
}

func (c *conn) popDone(r request, _ *decoder) (answerFunc, error) {
	return func(*answerBuilder) error { c.space.pops.acknowledge(r.session, r.seq); return nil }, nil
}
