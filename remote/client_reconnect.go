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

// attempt is an attempt to connect, shared by all calls that wait for it.
type attempt struct {
	done chan struct{}
	err  error // valid once done is closed
}

// startAttempt starts to reconnect, or returns the attempt in progress. mu must be held.
func (c *Client) startAttempt() *attempt {
	if c.attempt == nil {
		c.attempt = &attempt{done: make(chan struct{})}
		go c.reconnect(c.attempt)
	}
	return c.attempt
}

// reconnect connects, resends unanswered calls, and then admits new calls. A connection that ends
// before it delivers an answer counts as a failed attempt. Otherwise the client would forever resend
// a request that makes the server hang up.
func (c *Client) reconnect(current *attempt) {
	for {
		wait, err := c.nextPause()
		if err != nil {
			c.giveUp(current, err)
			return
		}
		select {
		case <-time.After(wait):
		case <-c.life.Done():
			c.giveUp(current, partd.ErrClosed)
			return
		}
		if err = c.connectAndResend(c.life, current); err == nil {
			return
		}
		c.opts.Logger.Debug("cannot connect", "server", c.url, "error", err)
		c.mu.Lock()
		c.recordUseless(err)
		c.mu.Unlock()
	}
}

// nextPause returns how long to wait before connecting, or an error if the client must give up.
func (c *Client) nextPause() (wait time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.uselessSince.IsZero() && (time.Since(c.uselessSince) > c.opts.RetryFor || errors.Is(c.linkErr, errHello) || errors.Is(c.linkErr, errRefused)) {
		return 0, c.linkErr
	}
	// Add jitter, because many clients can lose the server at the same time.
	return c.backoff/2 + rand.N(c.backoff/2+1), nil
}

// recordUseless records that a connection failed without delivering an answer. mu must be held.
func (c *Client) recordUseless(err error) {
	c.linkErr = err
	if c.uselessSince.IsZero() { // no pause after the first failure, which may be accidental
		c.uselessSince = time.Now()
		return
	}
	c.backoff = min(max(firstBackoff, 2*c.backoff), lastBackoff)
}

// connectAndResend makes one attempt to connect and to resend all unanswered calls.
func (c *Client) connectAndResend(ctx context.Context, current *attempt) error {
	if err := canceled.Err(ctx); err != nil {
		return err
	}
	l, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.handleRestart(l)
	c.mu.Lock()
	unanswered := slices.SortedFunc(maps.Values(c.calls), func(a, b *call) int { return cmp.Compare(a.number, b.number) })
	c.mu.Unlock()
	for _, k := range unanswered {
		if err := c.resend(l, k); err != nil {
			<-l.done
			return err
		}
	}
	if err := c.useLink(l); err != nil {
		return err
	}
	close(current.done)
	return nil
}

// resend resends a call over a new connection. It replaces an abandoned change by an empty change with
// the same number, because the server rejects changes that follow a missing number.
func (c *Client) resend(l *link, k *call) error {
	k.writeMu.Lock()
	defer k.writeMu.Unlock()
	c.mu.Lock()
	if k.finished || c.calls[k.number] != k {
		c.mu.Unlock()
		return nil
	}
	if err := l.checkSize(k); err != nil && !k.abandoned { // the new server process has a lower limit
		c.refuseResend(k, err)
		c.mu.Unlock()
		return nil
	}
	k.sendCount++
	k.link = l
	abandoned := k.abandoned
	if k.isPop {
		k.flags |= flagResent
	}
	c.mu.Unlock()
	if !abandoned {
		return l.send(c.life, k)
	}
	empty := newCall(opAppend)
	defer empty.recycle()
	empty.request = k.request
	empty.op, empty.flags = opAppend, 0
	empty.u32(0)
	empty.crc = checksum(opAppend, empty.body()...)
	return l.send(c.life, empty)
}

// refuseResend ends a call that cannot be sent again. mu must be held.
func (c *Client) refuseResend(k *call, err error) {
	if k.isNumbered || k.isPop || k.op.isChange() {
		err = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, err)
	}
	if k.isNumbered {
		c.ops.handleReply(c, k, err)
		return
	}
	c.complete(k, err)
}

// useLink makes new calls use a connection, and releases its writeToken.
func (c *Client) useLink(l *link) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.dead.Load() {
		return errors.New("the connection broke immediately")
	}
	c.link, c.instance, c.maxMessage, c.attempt = l, l.instance, l.maxMessage, nil
	<-l.writeToken
	return nil
}

// Instance returns the number of times that the client has reached a new server process, not
// counting the first. The number grows before the client handles the first answer of the new
// process, which may have another store.
func (c *Client) Instance() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.restarts
}

// handleRestart ends the session if it was lost with the previous server process.
func (c *Client) handleRestart(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.instance != c.instance && !c.ops.storeKeeps {
		for _, k := range c.calls {
			if k.isNumbered {
				c.complete(k, fmt.Errorf("%w: the server was restarted, and its store does not remember what it applied", partd.ErrUnknownOutcome))
			}
		}
		c.ops.renew()
	}
	if l.instance != c.instance {
		c.restarts++
	}
	c.instance = l.instance
}

func (c *Client) giveUp(current *attempt, err error) {
	if c.life.Err() != nil {
		err = partd.ErrClosed
	} else {
		c.opts.Logger.Warn("gave up connecting", "server", c.url, "error", err)
		err = fmt.Errorf("no connection to the server: %w", err)
	}
	c.mu.Lock()
	current.err = err
	c.attempt = nil
	c.uselessSince, c.backoff = time.Time{}, 0
	close(current.done)
	c.mu.Unlock()
	c.failAll(err)
}

// handleLoss handles the end of a connection. If calls wait for answers, it starts to reconnect.
func (c *Client) handleLoss(l *link, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != l {
		return // no calls were sent over l
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // io.EOF would look like the end of a value
	}
	c.link = nil
	if !l.useful {
		c.recordUseless(err)
	}
	for _, k := range c.calls {
		if k.boundLink == l && k.op.isChange() {
			c.complete(k, fmt.Errorf("%w: the connection broke: %w", partd.ErrUnknownOutcome, err))
		} else if k.boundLink == l {
			c.complete(k, fmt.Errorf("%w (the connection broke: %w)", ErrLost, err))
		}
	}
	if !c.closed {
		c.opts.Logger.Debug("connection lost", "server", c.url, "error", err, "unanswered", len(c.calls))
		if len(c.calls) > 0 {
			c.startAttempt()
		}
	}
}
