package remote

import (
	"context"
	"fmt"

	"github.com/go-partd/partd"
)

// Pop returns the values of keys and removes the keys, as one step. The server
// keeps the values until the client has received them, so a broken connection
// loses nothing. If the server restarts before it has answered, or ctx ends, the
// error wraps [partd.ErrUnknownOutcome].
func (c *Client) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := partd.CheckKeys("pop", keys); err != nil {
		return nil, err
	}
	k := newCall(opPop)
	k.popping = true
	k.instance = len(k.buf)
	k.u64(0)
	k.buf = appendKeys(k.buf, keys)
	if err := c.do(ctx, k); err != nil {
		c.takePop(k)
		return nil, c.errorf("pop", err)
	}
	result, more := k.reply, k.got&flagMore != 0
	for more {
		p := newCall(opPopRead)
		p.session, p.seq = k.session, k.seq
		p.u64(uint64(len(result)))
		if err := c.do(ctx, p); err != nil {
			return nil, c.errorf("pop", fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err))
		}
		if len(p.reply) == 0 {
			return nil, c.badReply("pop", errShort)
		}
		result, more = append(result, p.reply...), p.got&flagMore != 0
	}
	values, err := parsePopped(result, len(keys))
	if err != nil {
		return nil, c.badReply("pop", fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err))
	}
	if l := c.takePop(k); l != nil {
		select {
		case l.token <- struct{}{}:
			c.dropPops(ctx, l)
			<-l.token
		default: // who writes now may have looked already
		}
	}
	return values, nil
}

// takePop notes that the server need not keep what a pop took, or its error,
// to be told with the next call at the latest. It returns the connection.
func (c *Client) takePop(k *call) *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.session != 0 { // it was sent
		c.abandon = append(c.abandon, partd.Tag{Session: k.session, Number: k.seq})
	}
	return c.link
}

func parsePopped(result []byte, keys int) ([][]byte, error) {
	d := &decoder{b: result}
	n := d.count(8, 0)
	if d.err == nil && n != keys {
		d.fail(fmt.Errorf("%d values for %d keys", n, keys))
	}
	values := make([][]byte, 0, n)
	for range n {
		values = append(values, d.take(d.u64()))
	}
	return values, d.end()
}

// dropPops tells the server which results of pops need not be kept. The token is
// held. An error is noticed by the link's reader.
func (c *Client) dropPops(ctx context.Context, l *link) {
	c.mu.Lock()
	ids := c.abandon
	c.abandon = nil
	c.mu.Unlock()
	for _, id := range ids {
		k := newCall(opPopDone)
		k.session, k.seq = id.Session, id.Number
		_ = l.send(ctx, k)
		k.recycle()
	}
}
