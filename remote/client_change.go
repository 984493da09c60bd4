package remote

import (
	"context"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

const maxBatch = 4 << 20 // maximum result of BatchBytes

// Append appends each entry's value to its key's value, in order. It appends all entries or none.
// If the batch exceeds the server's message limit, the error wraps [partd.ErrTooLarge].
func (c *Client) Append(ctx context.Context, entries ...partd.Entry) error {
	return c.change(ctx, opAppend, entries, nil)
}

// BatchBytes returns the recommended maximum size of one Append, in bytes: 4 MiB, or a sixteenth of the
// server's message limit if that is less. [partd.Buffer] makes appends up to eight times as large.
func (c *Client) BatchBytes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(min(maxBatch, c.maxMessage/16))
}

// Set replaces the value of a key.
func (c *Client) Set(ctx context.Context, key string, value []byte) error {
	return c.change(ctx, opSet, []partd.Entry{{Key: key, Value: value}}, nil)
}

// SetOnce sets a key if it does not exist yet.
func (c *Client) SetOnce(ctx context.Context, key string, value []byte) error {
	return c.change(ctx, opSetOnce, []partd.Entry{{Key: key, Value: value}}, nil)
}

// Delete removes all of the keys, or none if it fails.
func (c *Client) Delete(ctx context.Context, keys ...string) error {
	return c.change(ctx, opDelete, nil, keys)
}

// Drop removes every key. If the server's disk has no space even for a session, the client sends
// Drop once, without a session. If the connection then breaks, the error wraps
// [partd.ErrUnknownOutcome].
func (c *Client) Drop(ctx context.Context) error { return c.change(ctx, opDrop, nil, nil) }

// change sends a change, repeatedly if necessary, until the server answers. The server applies the
// change only once.
func (x *exchange) change(ctx context.Context, op operation, entries []partd.Entry, keys []string) error {
	req, err := newChange(op, entries, keys)
	if err != nil {
		return err
	}
	req.isNumbered = true
	req.crc = checksum(req.op, req.body()...)
	err = x.do(ctx, req)
	if err == nil {
		req.recycleBatch()
	}
	return x.wrapError(req.op.String(), err)
}

func newChange(op operation, entries []partd.Entry, keys []string) (*call, error) {
	req := newCall(op)
	switch op {
	case opAppend, opSet, opSetOnce:
		if _, err := storekit.CheckEntries(op.String(), entries); err != nil {
			return nil, err
		}
		req.appendEntries(entries)
	case opDelete:
		if err := storekit.CheckKeys(op.String(), keys); err != nil {
			return nil, err
		}
		req.buf = appendKeys(req.buf, keys)
	}
	return req, nil
}

func (b *builder) appendEntries(entries []partd.Entry) {
	need := len(b.buf) + 4
	for i := range entries {
		need += entryHeaderLen + len(entries[i].Key)
		if n := len(entries[i].Value); n < minRefLen {
			need += n
		}
	}
	b.reserve(need)
	b.u32(uint32(len(entries)))
	buf := b.buf
	for i := range entries {
		key, value := entries[i].Key, entries[i].Value
		keyLen, valueLen := len(key), len(value)
		buf = append(buf, byte(keyLen), byte(keyLen>>8), byte(valueLen), byte(valueLen>>8), byte(valueLen>>16), byte(valueLen>>24))
		buf = append(buf, key...)
		if valueLen < minRefLen {
			buf = append(buf, value...)
			continue
		}
		b.buf = buf
		b.appendData(value)
		buf = b.buf
	}
	b.buf = buf
}

// Apply applies a numbered operation once, for callers that number operations
// themselves. Only one operation in a session may be in progress at a time.
func (c *Client) Apply(ctx context.Context, tag partd.Tag, op partd.Operation) (applied bool, err error) {
	if op.Change > partd.ChangeDrop || tag.Session == 0 || tag.Number == 0 {
		return false, c.wrapError("apply", fmt.Errorf("change %d, session %d, operation %d: sessions and operations are numbered from 1",
			op.Change, tag.Session, tag.Number))
	}
	req, err := newChange(operationOf(op.Change), op.Entries, op.Keys)
	if err != nil {
		return false, err
	}
	req.session, req.seq, req.crc = tag.Session, tag.Number, tag.CRC
	err = c.do(ctx, req)
	if err == nil {
		req.recycleBatch()
	}
	return err == nil && req.replyFlags&flagKnown == 0, c.wrapError("apply", err)
}

// Pop returns the values of keys and removes the keys, atomically. The server keeps the values
// until the client has received them, so a broken connection loses nothing. If the server
// restarts before it answers, or if ctx ends, the error wraps [partd.ErrUnknownOutcome].
func (c *Client) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := storekit.CheckKeys("pop", keys); err != nil {
		return nil, err
	}
	req := newCall(opPop)
	req.isPop = true
	req.instanceOffset = len(req.buf)
	req.u64(0)
	req.buf = appendKeys(req.buf, keys)
	if err := c.do(ctx, req); err != nil {
		c.addConfirmation(req)
		return nil, c.wrapError("pop", err)
	}
	result, more := req.reply, req.replyFlags&flagMore != 0
	for more {
		page := newCall(opPopRead)
		page.session, page.seq = req.session, req.seq
		page.u64(uint64(len(result)))
		if err := c.do(ctx, page); err != nil {
			return nil, c.wrapError("pop", fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err))
		}
		if len(page.reply) == 0 {
			return nil, c.badReply("pop", errShort)
		}
		result, more = append(result, page.reply...), page.replyFlags&flagMore != 0
	}
	values, err := parsePopped(result, len(keys))
	if err != nil {
		return nil, c.badReply("pop", fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err))
	}
	if l := c.addConfirmation(req); l != nil {
		select {
		case l.writeToken <- struct{}{}:
			c.confirmPops(ctx, l)
			<-l.writeToken
		default: // another call is being written; the next call sends the confirmation
		}
	}
	return values, nil
}

func parsePopped(result []byte, keyCount int) ([][]byte, error) {
	d := &decoder{b: result}
	n := d.count(8, 0)
	if d.err == nil && n != keyCount {
		d.fail(fmt.Errorf("%d values for %d keys", n, keyCount))
	}
	values := make([][]byte, 0, n)
	for range n {
		values = append(values, d.take(d.u64()))
	}
	return values, d.end()
}
