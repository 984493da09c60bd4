package remote

import (
	"context"

	"github.com/go-partd/partd/internal/zmtp"
)

// answer builds the body of a reply.
type answer struct {
	allowance
	builder
	flags    uint8
	pageSize int // approximate maximum size of the body
}

func (c *conn) newAnswer() *answer {
	a := &answer{allowance: *c.newAllowance(), builder: newBuilder(), pageSize: c.server.quotas.pageSize(c.pageSize)}
	if cap(a.buf) > uncharged {
		// A recycled buffer can be larger than this answer needs, and a slow peer can
		// occupy it for long.
		if c.Crowded() {
			a.builder = builder{buf: make([]byte, headRoom, 4<<10)}
		} else {
			a.force(int64(cap(a.buf)))
		}
	}
	// Include the memory of the store's reader, which is allocated before the data that it
	// reads.
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
	a.trim(int64(cap(a.buf)))
	r.flags |= a.flags
	var head [headRoom]byte
	return a.frame(r.append(zmtp.AppendHeader(head[:0], replyLen+a.size(), false)))
}

// allowance is an answer's share of the memory budget.
type allowance struct {
	account *account
	ctx     context.Context
	total   int64 // bytes charged to the account
	initial int64 // minimum of the first request, so that no answer holds some memory while it waits for more
}

const (
	uncharged    = 16 << 10 // bytes that each answer may use without charging them to its account
	maxSmallTake = 64 << 10 // a frame that needs at most this much memory counts as admission even if more frames follow
)

// raise raises the allowance to the given number of bytes. It can wait for memory.
func (a *allowance) raise(bytes int64) error {
	if bytes -= uncharged; bytes <= a.total {
		return nil
	}
	d := finish
	if a.initial > 0 && a.total == 0 { // the answer holds nothing yet, so it blocks nobody while it waits
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

// force raises the allowance to the given number of bytes, even beyond the budget. It is for memory
// that is already in use.
func (a *allowance) force(bytes int64) {
	if bytes -= uncharged; bytes > a.total {
		a.account.force(bytes - a.total)
		a.total = bytes
	}
}

// trim lowers the allowance to the given number of bytes.
func (a *allowance) trim(bytes int64) {
	if bytes = max(bytes-uncharged, 0); bytes < a.total {
		a.account.give(a.total - bytes)
		a.total = bytes
	}
}

func (a *allowance) release() { a.trim(0) }
