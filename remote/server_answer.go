package remote

import (
	"context"

	"github.com/go-partd/partd/internal/zmtp"
)

// answer builds the body of a reply.
type answer struct {
	allowance
	builder
	flags uint8
	page  int // approximate maximum size
}

func (c *conn) newAnswer() *answer {
	a := &answer{allowance: *c.newAllowance(), builder: newBuilder(), page: c.server.quotas.pageSize(c.page)}
	if cap(a.buf) > free {
		// The answer may not need that much for a long time.
		if c.Crowded() {
			a.builder = builder{buf: make([]byte, headRoom, 4<<10)}
		} else {
			a.force(int64(cap(a.buf)))
		}
	}
	// Include the memory of the store's reader, which exists before the data that it
	// reads.
	a.initial = int64(a.page+a.page/2) + c.handles.cost(false)
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

// allowance is an answer's share of the memory budget.
type allowance struct {
	account *account
	ctx     context.Context
	total   int64
	initial int64 // requested at once, so that no answer waits while holding a part
}

const (
	free      = 16 << 10 // bytes that each answer may use without asking
	firstTake = 64 << 10 // bytes that a message may use until its length is trusted
)

// raise raises the allowance to the given number of bytes. It can wait for memory.
func (a *allowance) raise(bytes int64) error {
	if bytes -= free; bytes <= a.total {
		return nil
	}
	d := finish
	if a.initial > 0 && a.total == 0 { // it holds nothing yet, so it blocks nobody
		d = admission
		if err := a.account.asking.acquire(a.ctx); err != nil {
			return err
		}
		defer a.account.asking.release()
	}
	bytes = max(bytes, a.initial)
	if err := a.account.take(a.ctx, bytes-a.total, d); err != nil {
		return err
	}
	a.total = bytes
	return nil
}

// force raises the allowance to the given number of bytes, even beyond the budget. It is for memory
// that is already in use.
func (a *allowance) force(bytes int64) {
	if bytes -= free; bytes > a.total {
		a.account.force(bytes - a.total)
		a.total = bytes
	}
}

// trim lowers the allowance to the given number of bytes.
func (a *allowance) trim(bytes int64) {
	if bytes = max(bytes-free, 0); bytes < a.total {
		a.account.give(a.total - bytes)
		a.total = bytes
	}
}

func (a *allowance) release() { a.trim(0) }
