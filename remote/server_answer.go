package remote

import (
	"context"

	"github.com/go-partd/partd/internal/server/zmtp"
)

type answer struct {
	allowance
	builder
	flags    uint8
	pageSize int // approximate maximum size of the body
}

func (c *conn) newAnswer() *answer {
	a := &answer{allowance: *c.newAllowance(), builder: newBuilder(), pageSize: c.server.quotas.pageSize(c.pageSize)}
	if cap(a.buf) > uncharged {
		// The recycled buffer may be larger than this answer needs, and a slow peer could
		// occupy it for long.
		if c.Crowded() {
			a.builder = builder{buf: make([]byte, headRoom, 4<<10)}
		} else {
			a.force(int64(cap(a.buf)))
		}
	}
	// Reserve the memory of the store's reader together with the memory of the data.
	a.initial = int64(a.pageSize+a.pageSize/2) + c.handles.cost(false)
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
	a.trim(int64(cap(a.buf) + a.bytes))
	r.flags |= a.flags
	var head [headRoom]byte
	return a.frame(r.append(zmtp.AppendHeader(head[:0], replyLen+a.size(), false)))
}

// allowance is an answer's share of the memory budget.
type allowance struct {
	account   *account
	ctx       context.Context
	total     int64 // bytes charged to the account
	continues bool  // the answer is a page of an open handle that uses much memory until its last page
	initial   int64 // minimum size of the first raise, in bytes, so that no answer holds a little memory while it waits for more
}

const (
	uncharged    = 16 << 10 // bytes that each answer may use for free
	maxSmallTake = 64 << 10 // a frame of at most this size is admitted like a whole message, even if more frames follow
)

// raise raises the allowance to the given number of bytes, and waits until memory is available.
func (a *allowance) raise(bytes int64) error {
	if bytes -= uncharged; bytes <= a.total {
		return nil
	}
	d := finish
	if a.initial > 0 && a.total == 0 && !a.continues { // the answer holds nothing yet, so it blocks nobody while it waits
		d = admission
		if err := a.account.waitPermit.acquire(a.ctx); err != nil {
			return err
		}
		defer a.account.waitPermit.release()
	}
	bytes = max(bytes, a.initial)
	if err := a.account.take(a.ctx, bytes-a.total, d); err != nil {
		return err
	}
	a.total = bytes
	return nil
}

// force raises the allowance to the given number of bytes without waiting, even beyond the budget.
// Use it for memory that is already allocated.
func (a *allowance) force(bytes int64) {
	if bytes -= uncharged; bytes > a.total {
		a.account.force(bytes - a.total)
		a.total = bytes
	}
}

func (a *allowance) trim(bytes int64) {
	if bytes = max(bytes-uncharged, 0); bytes < a.total {
		a.account.give(a.total - bytes)
		a.total = bytes
	}
}

func (a *allowance) release() { a.trim(0) }
