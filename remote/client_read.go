package remote

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

const (
	maxKeysLen    = 64 << 10 // total length of the keys in a request, in bytes
	maxGetRetries = 100      // number of times that Get retries after a broken connection
)

// Get returns the value of each key, in the order of keys.
func (c *Client) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := storekit.CheckKeys("get", keys); err != nil {
		return nil, err
	}
	if err := c.checkUsable(ctx); err != nil {
		return nil, c.wrapError("get", err)
	}
	values := make([][]byte, 0, len(keys))
	retries := 0
	for len(values) < len(keys) {
		batch, err := c.getBatch(ctx, keys[len(values):])
		if errors.Is(err, ErrLost) && retries < maxGetRetries {
			retries++
			continue
		}
		if err != nil {
			return nil, c.wrapError("get", err)
		}
		values = append(values, batch...)
	}
	return values, nil
}

// getBatch returns the values of the first keys: at least one value, and as many as fit in a reply.
func (x *exchange) getBatch(ctx context.Context, keys []string) ([][]byte, error) {
	n, size := 0, 0
	for n < len(keys) && (n == 0 || size+len(keys[n]) <= maxKeysLen) {
		size += 2 + len(keys[n])
		n++
	}
	req := newCall(opGet)
	req.buf = appendKeys(req.buf, keys[:n])
	if err := x.do(ctx, req); err != nil {
		return nil, err
	}
	d := &decoder{b: req.reply}
	count := d.count(4, 0)
	if d.err == nil && (count == 0 || count > n) {
		d.fail(fmt.Errorf("%d values for %d keys", count, n))
	}
	values := make([][]byte, 0, count)
	for range count {
		size := d.u32()
		if size == largeValue {
			handle := d.u64()
			if err := d.end(); err != nil || len(values) > 0 {
				return nil, x.badReply("get", err)
			}
			r := &valueReader{key: keys[0], pages: newPager(ctx, x, opRead, req.link, handle)}
			v, err := io.ReadAll(r)
			return [][]byte{v}, errors.Join(err, r.Close())
		}
		values = append(values, d.take(uint64(size)))
	}
	if err := d.end(); err != nil {
		return nil, x.badReply("get", err)
	}
	return values, nil
}

// Open returns a reader of the key's current value. If the connection breaks, Read
// returns an error that wraps [ErrLost].
func (c *Client) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := storekit.CheckKeys("open", []string{key}); err != nil {
		return nil, err
	}
	req := newCall(opOpen)
	req.buf = appendKey(req.buf, key)
	if err := c.do(ctx, req); err != nil {
		return nil, c.wrapError("open", err)
	}
	d := &decoder{b: req.reply}
	handle := d.u64()
	if d.err != nil || (handle != 0) != (req.replyFlags&flagMore != 0) {
		return nil, c.badReply("open", d.err)
	}
	return &valueReader{key: key, data: d.b, pages: newPager(ctx, &c.exchange, opRead, req.link, handle)}, nil
}

// valueReader reads the value of a key.
type valueReader struct {
	key    string
	pages  pager
	data   []byte // received but not yet returned
	closed bool
	err    error
}

func (r *valueReader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, r.wrapError(partd.ErrClosed)
	}
	for len(r.data) == 0 {
		switch {
		case r.err != nil:
			return 0, r.err
		case r.pages.ended():
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		}
		var err error
		r.data, err = r.pages.next()
		if err != nil {
			r.err = r.wrapError(err)
		}
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	r.pages.requestNext()
	return n, nil
}

func (r *valueReader) wrapError(err error) error {
	if errors.As(err, new(*partd.Error)) {
		return err
	}
	return &partd.Error{Op: "read", Key: r.key, HasKey: true, Path: r.pages.c.url, Err: err}
}

func (r *valueReader) Close() error {
	if !r.closed {
		r.closed = true
		r.data = nil
		r.pages.close()
	}
	return nil
}
