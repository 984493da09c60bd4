package remote

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/zmtp"
)

// pythonGet writes the values as frames of one message. Of no keys there is
// none, as ZeroMQ has no message without a frame.
func (c *conn) pythonGet(keys [][]byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	a := c.newAllowance()
	w := frameWriter{c: c, page: c.server.quotas.page(defaultPage)}
	a.most = min(int64(w.page+w.page/2)+c.handles.cost(false), c.server.opts.Memory/4)
	defer a.release()
	for i, k := range keys {
		if err := c.pythonValue(&w, a, string(k), i < len(keys)-1); err != nil {
			return err
		}
	}
	return w.flush()
}

// pythonValue writes one value as a frame. A frame begins with its length, so a
// large value is read twice from one reader, first to learn its length. Where the
// reader cannot begin anew, the value is held in memory.
func (c *conn) pythonValue(w *frameWriter, a *allowance, key string, more bool) error {
	v, err := c.space.readValue(c.ctx, key, w.value[:0], w.page, a)
	if err != nil {
		return err
	}
	w.value = v.buf
	if v.rest == nil {
		return w.frame(v.data, more)
	}
	r, ok := v.rest.(partd.Rewinder)
	if ok {
		if err := r.Rewind(); err == nil {
			return errors.Join(w.stream(v.rest, r, more), v.rest.Close())
		}
	}
	limit := int(c.server.opts.Memory / 4)
	whole, tooLong, err := readUpTo(v.rest, v.buf, limit, a)
	if err == nil && tooLong {
		err = fmt.Errorf("%w: it has more than %d bytes, a quarter of the server's memory, and its store cannot read it again", partd.ErrTooLarge, limit)
	}
	if err := errors.Join(err, v.rest.Close()); err != nil {
		return err
	}
	return w.frame(whole, more)
}

// frameWriter gathers small frames and writes them together.
type frameWriter struct {
	c     *conn
	buf   []byte
	value []byte // memory for a value
	page  int    // the longest that is read before it is sent
}

const gather = 64 << 10

func (w *frameWriter) frame(body []byte, more bool) error {
	w.buf = zmtp.AppendHeader(w.buf, len(body), more)
	if len(body) > gather {
		err := w.c.writeLocked(w.buf, body)
		w.buf = w.buf[:0]
		return err
	}
	w.buf = append(w.buf, body...)
	if len(w.buf) < gather {
		return nil
	}
	return w.flush()
}

// length reads to the end, in turn. What is read counts as taken by the peer, which
// cannot take anything yet.
func (c *conn) length(r io.Reader) (int64, error) {
	if err := c.tenant.turns.acquire(c.ctx); err != nil {
		return 0, err
	}
	defer c.tenant.turns.release()
	return io.Copy(progress{c}, r)
}

type progress struct{ *conn }

func (p progress) Write(b []byte) (int, error) {
	p.account.sent.Add(int64(len(b)))
	return len(b), p.ctx.Err() // the connection may be closed meanwhile
}

// stream writes a frame from a reader, which is at its begin, and is read twice.
func (w *frameWriter) stream(r io.Reader, again partd.Rewinder, more bool) error {
	size, err := w.c.length(r)
	if err == nil {
		err = again.Rewind()
	}
	if err != nil {
		return err
	}
	w.buf = zmtp.AppendHeader(w.buf, int(size), more)
	if err := w.flush(); err != nil {
		return err
	}
	for size > 0 {
		n, err := r.Read(w.value[:min(size, int64(len(w.value)))])
		if err := w.c.writeLocked(w.value[:n]); err != nil {
			return err
		}
		size -= int64(n)
		if err != nil && size > 0 {
			return fmt.Errorf("the value became shorter while it was sent: %w", err)
		}
	}
	return nil
}

func (w *frameWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	err := w.c.writeLocked(w.buf)
	w.buf = w.buf[:0]
	return err
}
