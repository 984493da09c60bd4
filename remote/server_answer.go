package remote

import "github.com/go-partd/partd/internal/zmtp"

// answer is the body of a reply being made.
type answer struct {
	allowance
	builder
	flags uint8
}

func (c *conn) newAnswer() *answer {
	a := &answer{allowance: *c.newAllowance(), builder: newBuilder()}
	if cap(a.buf) > free {
		// It may wait long before it needs as much.
		if c.Crowded() {
			a.builder = builder{buf: make([]byte, headRoom, 4<<10)}
		} else {
			a.force(int64(cap(a.buf)))
		}
	}
	// With what the store's reader takes, which is there before what it reads.
	a.most = int64(c.page+c.page/2) + c.server.handles.cost(false)
	return a
}

func (c *conn) newAllowance() *allowance {
	return &allowance{account: c.account, ctx: c.ctx}
}

// drop gives its memory back.
func (a *answer) drop() {
	a.recycle()
	a.release()
}

// parts returns the reply as a frame, to be written.
func (a *answer) parts(r reply) [][]byte {
	a.trim(int64(cap(a.buf)))
	r.flags |= a.flags
	var head [headRoom]byte
	return a.frame(r.append(zmtp.AppendHeader(head[:0], replyLen+a.size(), false)))
}
