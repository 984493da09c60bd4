package remote

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-partd/partd"
)

// unanswered returns the calls to be sent again, in their order.
func (c *Client) unanswered() []*call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.calls), func(a, b *call) int { return cmp.Compare(a.number, b.number) })
}

// sendAgain sends a call over a new connection. In place of a change that was
// given up goes one that does nothing, with its number.
func (c *Client) sendAgain(l *link, k *call) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	c.mu.Lock()
	if k.finished || c.calls[k.number] != k {
		c.mu.Unlock()
		return nil
	}
	k.sends++
	k.via = l
	abandoned := k.abandoned
	if k.popping {
		k.flags |= flagResent
	}
	c.mu.Unlock()
	if !abandoned {
		return l.send(c.life, k)
	}
	void := newCall(opAppend)
	defer void.recycle()
	void.request = k.request
	void.op, void.flags = opAppend, 0
	void.u32(0)
	void.crc = checksum(opAppend, void.body()...)
	return l.send(c.life, void)
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
