package remote

import (
	"context"
	"sync/atomic"
	"time"
)

// pager reads the pages of a handle. One page is asked for ahead, so that the
// server makes it while the one before is used.
type pager struct {
	c      *Client
	ctx    context.Context
	op     operation // read or next
	via    *link     // the connection that the handle is of
	handle uint64    // 0 once there are no more pages
	step   uint64
	ahead  *call // asked for, and not yet taken
	err    error // of asking
	over   *atomic.Bool
}

// keepEvery is how often a client says that it still wants a handle.
const keepEvery = handleIdle / 4

// newPager returns what reads the pages of a handle, and keeps the handle open
// for as long as ctx goes on and it is neither closed nor at its end.
func (c *Client) newPager(ctx context.Context, op operation, via *link, handle uint64) pager {
	p := pager{c: c, ctx: ctx, op: op, via: via, handle: handle, over: new(atomic.Bool)}
	if handle != 0 {
		p.keepOpen()
	}
	return p
}

func (p pager) keepOpen() {
	time.AfterFunc(keepEvery, func() {
		if p.over.Load() || p.ctx.Err() != nil || p.via.dead.Load() {
			return
		}
		ctx, cancel := context.WithTimeout(p.c.life, keepEvery)
		defer cancel()
		k := newCall(opKeepHandle)
		k.u64(p.handle)
		p.via.tell(ctx, k)
		k.recycle()
		p.keepOpen()
	})
}

func (p *pager) ended() bool { return p.handle == 0 }

// ask asks for the next page, if there is one and it was not asked for.
func (p *pager) ask() {
	if p.ended() || p.ahead != nil || p.err != nil {
		return
	}
	p.step++
	p.ahead = newCall(p.op)
	p.ahead.bound = p.via
	p.ahead.u64(p.handle)
	p.ahead.u64(p.step)
	if p.err = p.c.start(p.ctx, p.ahead); p.err != nil {
		p.ahead = nil
	}
}

// next returns the next page, where there is one.
func (p *pager) next() ([]byte, error) {
	p.ask()
	if p.err != nil {
		return nil, p.err
	}
	k := p.ahead
	p.ahead = nil
	if p.err = p.c.wait(p.ctx, k); p.err != nil {
		return nil, p.err
	}
	k.recycle()
	if k.got&flagMore == 0 {
		p.handle = 0 // the server has closed it
		p.over.Store(true)
	}
	p.ask() // as this one was wanted
	return k.reply, nil
}

// close lets the server close the handle. It need not know how that ends: a
// handle of a broken connection is closed.
func (p *pager) close() {
	if p.ended() {
		return
	}
	if p.ahead != nil {
		p.ahead.forget(p.c)
		p.ahead = nil
	}
	ctx, cancel := context.WithTimeout(p.c.life, closeTimeout)
	defer cancel()
	k := newCall(opCloseHandle)
	k.bound = p.via
	k.u64(p.handle)
	p.handle = 0
	p.over.Store(true)
	_ = p.c.do(ctx, k)
}
