package remote

import (
	"context"

	"github.com/go-partd/partd/internal/server/zmtp"
)

// answerBuilder is an answer that the server is making, with its share of the memory.
type answerBuilder struct {
	allowance
	builder
	flags    uint8
	pageSize int // approximate maximum size of the body
}

// drop ends the use of the answer. Spare buffers are not charged to the budget, so large ones are kept only while little
// of it is in use.
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
	var head [headRoom]byte
	return a.frame(r.append(zmtp.AppendHeader(head[:0], replyLen+a.size(), false)))
}

// fill builds the body of an answer. Unless the operation's cost is immediate, fill must not use
// the request's body, because the next message may overwrite it.
type fill func(a *answerBuilder) error

// allowance is an answer's share of the memory budget.
type allowance struct {
	account   *account
	ctx       context.Context
	total     int64 // bytes charged to the account
	continues bool  // the answer is a page of an open handle that uses much memory until its last page
	// minFirstRaise is the minimum size of the first raise, in bytes. It prevents answers from holding a
	// little memory while they wait for more.
	minFirstRaise int64
}

// freeBytes is how many bytes each answer may use for free.
const freeBytes = 16 << 10

// raise raises the allowance to the given number of bytes, and waits until memory is available.
func (a *allowance) raise(bytes int64) error {
	bytes -= freeBytes
	if bytes <= a.total {
		return nil
	}
	d := finish
	if a.minFirstRaise > 0 && a.total == 0 && !a.continues { // the answer holds nothing yet, so it blocks nobody while it waits
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
