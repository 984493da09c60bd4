package remote

import (
	"context"

	"github.com/go-partd/partd/internal/server/zmtp"
)

// answerBuilder builds an answer and holds the answer's share of the memory budget.
type answerBuilder struct {
	allowance
	builder
	flags    uint8
	pageSize int // approximate maximum size of the body
}

// drop releases the answer's memory. Pooled buffers are not charged to the budget, so drop keeps a large one only while
// little of the budget is in use.
func (a *answerBuilder) drop() {
	if a.account.budget.isCrowded() {
		a.recycle()
	} else {
		a.recycleBatch()
	}
	a.release()
}

func (a *answerBuilder) parts(r reply) [][]byte {
	a.trim(int64(cap(a.buf) + a.bytes))
	r.flags |= a.flags
	var head [headerSpace]byte
	return a.frame(r.append(zmtp.AppendHeader(head[:0], replyLen+a.size(), false)))
}

// answerFunc builds the body of an answer. Unless the operation's cost is immediate, it must not use
// the request's body, because the next message may overwrite that body.
type answerFunc func(a *answerBuilder) error

// allowance is an answer's share of the memory budget.
type allowance struct {
	account         *account
	ctx             context.Context
	total           int64 // bytes charged to the account
	fromLargeHandle bool  // the answer is a page from an open handle whose reader uses much memory
	// minFirstRaise is the minimum size of the first raise, in bytes. It keeps answers from holding a
	// little memory while they wait for more.
	minFirstRaise int64
}

// freeBytes is the number of bytes that each answer may use without charge.
const freeBytes = 16 << 10

// raise raises the allowance to the given number of bytes. It waits until the memory is available.
func (a *allowance) raise(bytes int64) error {
	bytes -= freeBytes
	if bytes <= a.total {
		return nil
	}
	d := finish
	if a.minFirstRaise > 0 && a.total == 0 && !a.fromLargeHandle { // the answer holds no memory yet, so others need not wait for it
		d = admission
		if err := a.account.waitPermit.acquire(a.ctx); err != nil {
			return err
		}
		defer a.account.waitPermit.release()
	}
	bytes = max(bytes, a.minFirstRaise)
	if err := a.account.take(a.ctx, bytes-a.total, d); err != nil {
		return err
	}
	a.total = bytes
	return nil
}

// force raises the allowance to the given number of bytes without waiting, even beyond the budget.
// Use it for memory that is already allocated.
func (a *allowance) force(bytes int64) {
	bytes -= freeBytes
	if bytes > a.total {
		a.account.force(bytes - a.total)
		a.total = bytes
	}
}

func (a *allowance) trim(bytes int64) {
	bytes = max(bytes-freeBytes, 0)
	if bytes < a.total {
		a.account.give(a.total - bytes)
		a.total = bytes
	}
}

func (a *allowance) release() { a.trim(0) }
