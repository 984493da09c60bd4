package remote

import (
	"context"

	"github.com/go-partd/partd/internal/zmtp"
)

// answer is the body of a reply being made.
type answer struct {
	allowance
	builder
	flags uint8
	page  int // bytes of it, about
}

func (c *conn) newAnswer() *answer {
	a := &answer{allowance: *c.newAllowance(), builder: newBuilder(), page: c.server.quotas.page(c.page)}
	if cap(a.buf) > free {
		// It may wait long before it needs as much.
		if c.Crowded() {
			a.builder = builder{buf: make([]byte, headRoom, 4<<10)}
		} else {
			a.force(int64(cap(a.buf)))
		}
	}
	// With what the store's reader takes, which is there before what it reads.
	a.most = int64(a.page+a.page/2) + c.handles.cost(false)
	return a
}

func (c *conn) newAllowance() *allowance {
	return &allowance{account: c.account, ctx: c.ctx}
}

func (a *answer) drop() {
	a.recycle()
	a.release()
}

func (a *answer) parts(r reply) [][]byte {
	a.trim(int64(cap(a.buf)))
	r.flags |= a.flags
	var head [headRoom]byte
	return a.frame(r.append(zmtp.AppendHeader(head[:0], replyLen+a.size(), false)))
}

// allowance is what an answer being made holds of the budget.
type allowance struct {
	account *account
	ctx     context.Context
	held    int64
	most    int64 // taken at once, so that no answer waits with half of it
}

const (
	free      = 16 << 10 // what each answer has without asking
	firstTake = 64 << 10 // what a message has when its length is not yet believed
)

// hold makes the allowance so many bytes.
func (a *allowance) hold(bytes int64) error {
	if bytes -= free; bytes <= a.held {
		return nil
	}
	d := finish
	if a.most > 0 && a.held == 0 { // it holds up nobody yet
		d = admission
		if err := a.account.asking.acquire(a.ctx); err != nil {
			return err
		}
		defer a.account.asking.release()
	}
	bytes = max(bytes, a.most)
	if err := a.account.take(a.ctx, bytes-a.held, d); err != nil {
		return err
	}
	a.held = bytes
	return nil
}

// force makes it so many bytes, there or not: they are in use already.
func (a *allowance) force(bytes int64) {
	if bytes -= free; bytes > a.held {
		a.account.force(bytes - a.held)
		a.held = bytes
	}
}

// trim gives back what is not in use.
func (a *allowance) trim(bytes int64) {
	if bytes = max(bytes-free, 0); bytes < a.held {
		a.account.give(a.held - bytes)
		a.held = bytes
	}
}

func (a *allowance) release() { a.trim(0) }
