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
	"github.com/go-partd/partd/internal/canceled"
)

// attempt is connecting again, for all calls that wait for it.
type attempt struct {
	done chan struct{}
	err  error // once done
}

// startAttempt begins to connect, or returns the attempt that is under way. mu
// is held.
func (c *Client) startAttempt() *attempt {
	if c.attempt == nil {
		c.attempt = &attempt{done: make(chan struct{})}
		go c.reconnect(c.attempt)
	}
	return c.attempt
}

// reconnect connects, sends again what was not answered, and lets new calls go.
// A connection that ends before it has brought an answer is as none: a request
// that makes the server hang up must not be sent again for ever.
func (c *Client) reconnect(at *attempt) {
	for {
		wait, err := c.patience()
		if err != nil {
			c.giveUp(at, err)
			return
		}
		select {
		case <-time.After(wait):
		case <-c.life.Done():
			c.giveUp(at, partd.ErrClosed)
			return
		}
		if err = c.tryAgain(c.life, at); err == nil {
			return
		}
		c.opts.Logger.Debug("cannot connect", "server", c.url, "error", err)
		c.mu.Lock()
		c.useless(err)
		c.mu.Unlock()
	}
}

// patience returns how long to wait before connecting, or why not to.
func (c *Client) patience() (wait time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stuck.IsZero() && (time.Since(c.stuck) > c.opts.RetryFor || errors.Is(c.broken, errHello) || errors.Is(c.broken, errRefused)) {
		return 0, c.broken
	}
	// Not all at the same time, where a server has lost many clients at once.
	return c.backoff/2 + rand.N(c.backoff/2+1), nil
}

// useless notes that a connection was of no use, or was not made. mu is held.
func (c *Client) useless(err error) {
	c.broken = err
	if c.stuck.IsZero() { // the first time it may have been chance
		c.stuck = time.Now()
		return
	}
	c.backoff = min(max(firstBackoff, 2*c.backoff), lastBackoff)
}

func (c *Client) tryAgain(ctx context.Context, at *attempt) error {
	if err := canceled.Err(ctx); err != nil {
		return err
	}
	l, err := c.connect(ctx)
	if err != nil {
		return err
	}
	c.noteRestart(l)
	c.mu.Lock()
	unanswered := slices.SortedFunc(maps.Values(c.calls), func(a, b *call) int { return cmp.Compare(a.number, b.number) })
	c.mu.Unlock()
	for _, k := range unanswered {
		if err := c.sendAgain(l, k); err != nil {
			<-l.ended
			return err
		}
	}
	if err := c.use(l); err != nil {
		return err
	}
	close(at.done)
	return nil
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

// use makes a connection the one that calls go over. Its token is given back.
func (c *Client) use(l *link) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.dead.Load() {
		return errors.New("the connection was lost at once")
	}
	c.link, c.instance, c.attempt = l, l.instance, nil
	<-l.token
	return nil
}

// Instance counts the server processes to which the client was connected, from 0. If the
// server is restarted, possibly over another store, the number grows by one before the
// first answer arrives.
func (c *Client) Instance() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lives
}

// noteRestart ends a session that died with the server that kept it.
func (c *Client) noteRestart(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.instance != c.instance && !c.ops.kept {
		for _, k := range c.calls {
			if k.numbered {
				c.complete(k, fmt.Errorf("%w: the server was started again, and its store does not remember what it applied", partd.ErrUnknownOutcome))
			}
		}
		c.ops.renew()
	}
	if l.instance != c.instance {
		c.lives++
	}
	c.instance = l.instance
}

func (c *Client) giveUp(at *attempt, err error) {
	if c.life.Err() != nil {
		err = partd.ErrClosed
	} else {
		c.opts.Logger.Warn("gave up connecting", "server", c.url, "error", err)
		err = fmt.Errorf("no connection to the server: %w", err)
	}
	c.mu.Lock()
	at.err = err
	c.attempt = nil
	c.stuck, c.backoff = time.Time{}, 0 // a later call begins anew
	close(at.done)
	c.mu.Unlock()
	c.failAll(err)
}

// lost notes the end of a connection. If calls wait for answers, another is made.
func (c *Client) lost(l *link, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != l {
		return // it never came into use
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // who reads on must not take it for the end of a value
	}
	c.link = nil
	if !l.useful {
		c.useless(err)
	}
	for _, k := range c.calls {
		if k.bound == l && k.op.mutates() {
			c.complete(k, fmt.Errorf("%w: the connection broke: %w", partd.ErrUnknownOutcome, err))
		} else if k.bound == l {
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
