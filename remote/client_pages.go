package remote

import (
	"context"
	"iter"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

// Keys yields each key once with its size, page by page. If the connection breaks, it
// yields an error that wraps [ErrLost].
func (c *Client) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return func(yield func(partd.KeyInfo, error) bool) {
		listPages(ctx, &c.exchange, newCall(opKeys), 8+2, func(d *decoder) partd.KeyInfo {
			size := d.u64()
			return partd.KeyInfo{Key: d.key(), Size: int64(size)}
		}, yield)
	}
}

// Scan yields every key with its value as chunks, page by page. If the connection
// breaks, it yields an error that wraps [ErrLost].
func (c *Client) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] { return c.scan(ctx, 0, 1) }

// ScanPart is like Scan, but yields only one part of the keys. All clients divide the keys into the
// same parts.
func (c *Client) ScanPart(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	if err := storekit.CheckPart(part, parts); err != nil {
		return func(yield func(partd.Chunk, error) bool) { yield(partd.Chunk{}, err) }
	}
	return c.scan(ctx, part, parts)
}

func (x *exchange) scan(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	return func(yield func(partd.Chunk, error) bool) {
		req := newCall(opScan)
		req.u32(uint32(part))
		req.u32(uint32(parts))
		key := ""
		listPages(ctx, x, req, 1+8+4+2, func(d *decoder) partd.Chunk {
			chunk := partd.Chunk{Last: d.bool(), Offset: int64(d.u64())}
			n := d.u32()
			if k := d.take(uint64(d.u16())); string(k) != key {
				key = string(k)
			}
			chunk.Key, chunk.Data = key, d.take(uint64(n))
			return chunk
		}, yield)
	}
}

// listPages sends req, a request for a listing, and yields the items. item decodes an item, which
// has at least minSize bytes.
func listPages[V any](ctx context.Context, c *exchange, req *call, minSize int, item func(d *decoder) V, yield func(V, error) bool) {
	var zero V
	op := req.op
	if err := c.do(ctx, req); err != nil {
		yield(zero, c.wrapError(op.String(), err))
		return
	}
	d := &decoder{b: req.reply}
	handle := d.u64()
	page := d.b
	if d.err != nil || (req.replyFlags&flagMore != 0) != (handle != 0) {
		yield(zero, c.badReply(op.String(), d.err))
		return
	}
	pages := newPager(ctx, c, opNext, req.link, handle)
	defer pages.close()
	defer pages.link.reader.Reuse(nil) // free the memory of the last page
	for {
		d := &decoder{b: page}
		for range d.count(minSize, 0) {
			v := item(d)
			if d.err != nil {
				break
			}
			if !yield(v, nil) {
				return
			}
			pages.requestNext() // the caller probably wants another page
		}
		if err := d.end(); err != nil {
			yield(zero, c.badReply(op.String(), err))
			return
		}
		if pages.ended() {
			return
		}
		pages.link.reader.Reuse(page) // its items were valid only until now
		var err error
		page, err = pages.next()
		if err != nil {
			yield(zero, c.wrapError(op.String(), err))
			return
		}
	}
}

// pager reads the pages of a handle: a reader or listing that is open on the server. It requests
// each page early, while its caller still uses the previous page.
type pager struct {
	c        *exchange
	ctx      context.Context
	op       operation    // opRead or opNext
	link     *link        // the handle's connection
	handle   uint64       // 0 after the last page
	lastPage uint64       // number of the last requested page
	pending  *call        // the request for the next page; nil before requestNext
	err      error        // error from requesting or receiving a page
	stopped  *atomic.Bool // set when keepOpen must no longer keep the handle open
}

// keepInterval is the interval at which a client tells the server that it still uses a handle.
const keepInterval = handleIdle / 4

// newPager returns a pager for a handle. The handle stays open until ctx ends, the pager is closed,
// or the last page is read.
func newPager(ctx context.Context, c *exchange, op operation, l *link, handle uint64) pager {
	p := pager{c: c, ctx: ctx, op: op, link: l, handle: handle, stopped: new(atomic.Bool)}
	if handle != 0 {
		p.keepOpen()
	}
	return p
}

// keepOpen schedules the next message that keeps the handle open.
func (p pager) keepOpen() {
	time.AfterFunc(keepInterval, func() {
		if p.stopped.Load() || p.ctx.Err() != nil || p.link.dead.Load() {
			return
		}
		ctx, cancel := context.WithTimeout(p.c.life, keepInterval)
		defer cancel()
		req := newCall(opKeepHandle)
		req.u64(p.handle)
		p.link.notify(ctx, req)
		req.recycle()
		p.keepOpen()
	})
}

func (p *pager) ended() bool { return p.handle == 0 }

// requestNext requests the next page unless it was already requested or the last page was read.
func (p *pager) requestNext() {
	if p.ended() || p.pending != nil || p.err != nil {
		return
	}
	p.lastPage++
	p.pending = newCall(p.op)
	p.pending.boundLink = p.link
	p.pending.u64(p.handle)
	p.pending.u64(p.lastPage)
	p.err = p.c.start(p.ctx, p.pending)
	if p.err != nil {
		p.pending = nil
	}
}

// next returns the next page, which must exist.
func (p *pager) next() ([]byte, error) {
	p.requestNext()
	if p.err != nil {
		return nil, p.err
	}
	req := p.pending
	p.pending = nil
	p.err = p.c.wait(p.ctx, req)
	if p.err != nil {
		return nil, p.err
	}
	req.recycle()
	if req.replyFlags&flagMore == 0 {
		p.handle = 0 // the server has closed the handle
		p.stopped.Store(true)
	}
	p.requestNext()
	return req.reply, nil
}

// close tells the server to close the handle. Errors do not matter: the server closes the
// handles of a broken connection anyway.
func (p *pager) close() {
	if p.ended() {
		return
	}
	if p.pending != nil {
		p.c.forget(p.pending)
		p.pending = nil
	}
	ctx, cancel := context.WithTimeout(p.c.life, closeTimeout)
	defer cancel()
	req := newCall(opCloseHandle)
	req.boundLink = p.link
	req.u64(p.handle)
	p.handle = 0
	p.stopped.Store(true)
	_ = p.c.do(ctx, req)
}
