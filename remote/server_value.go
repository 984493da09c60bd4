package remote

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
)

// loadedValue is a whole value or its first bytes.
type loadedValue struct {
	data []byte        // a part of buf or of the store's own memory
	buf  []byte        // the caller's buffer, possibly reallocated
	rest io.ReadCloser // the rest of the value; nil if data is the whole value
}

// readValue appends the first bytes of a value, at most limit, to buf. If the store cannot stream
// values, readValue returns the whole value in the store's own memory instead.
func (s *space) readValue(ctx context.Context, key string, buf []byte, limit int, a *allowance) (loadedValue, error) {
	opener, ok := s.store.(partd.Opener)
	if !ok {
		return s.getValue(ctx, key, buf, limit, a)
	}
	if a.account.budget.isCrowded() {
		// Take memory before opening the reader, because a request must not keep a reader open
		// while it waits for memory.
		if err := a.raise(freeBytes + 1); err != nil {
			return loadedValue{}, err
		}
	}
	r, err := opener.Open(ctx, key)
	if errors.Is(err, errors.ErrUnsupported) {
		return s.getValue(ctx, key, buf, limit, a)
	}
	if err != nil {
		return loadedValue{}, err
	}
	start := len(buf)
	buf, more, err := readUpTo(r, buf, limit, a)
	if err != nil {
		return loadedValue{}, errors.Join(err, r.Close())
	}
	v := loadedValue{data: buf[start:], buf: buf}
	if more {
		v.rest = r
		return v, nil
	}
	return v, r.Close()
}

// getValue gets a whole value. It can charge the value's memory only afterwards, when the size is
// known. If the memory in use then exceeds the budget, later calls wait for memory.
func (s *space) getValue(ctx context.Context, key string, buf []byte, limit int, a *allowance) (loadedValue, error) {
	if err := a.raise(freeBytes + 1); err != nil {
		return loadedValue{}, err
	}
	if d, ok := s.store.(*partd.Dict); ok {
		if v, ok, err := copyValue(ctx, d, key, buf, limit, a); ok || err != nil {
			return v, err
		}
	}
	values, err := s.store.Get(ctx, key)
	if err != nil {
		return loadedValue{}, err
	}
	a.force(int64(cap(buf) + len(values[0])))
	return loadedValue{data: values[0], buf: buf}, nil
}

// copyValue appends a whole value to buf. Unlike Get, it allocates no memory if buf is large enough. It
// returns false if the value is longer than limit, or if buf would become too large to be reused.
func copyValue(ctx context.Context, d *partd.Dict, key string, buf []byte, limit int, a *allowance) (v loadedValue, ok bool, err error) {
	for start := len(buf); ; {
		dst := buf[start:min(cap(buf), start+limit)]
		length, err := d.CopyValue(ctx, dst, key)
		switch {
		case err != nil:
			return loadedValue{}, false, err
		case length <= int64(len(dst)):
			buf = buf[:start+int(length)]
			return loadedValue{data: buf[start:], buf: buf}, true, nil
		case length > int64(min(limit, maxPooledBuffer-start)):
			return loadedValue{}, false, nil
		}
		size := cap(buf)
		for size < start+int(length) {
			size = nextSize(size)
		}
		if err := a.raise(int64(cap(buf) + size)); err != nil {
			return loadedValue{}, false, err
		}
		buf = append(make([]byte, 0, size), buf...)
	}
}

// nextSize returns the size to which a full buffer of the given size should grow. The steps are large
// because each of them copies the buffer.
func nextSize(size int) int {
	for _, step := range []int{4 << 10, 64 << 10, 256 << 10, maxPooledBuffer} {
		if size < step {
			return step
		}
	}
	return 4 * size
}

// readUpTo appends at most limit bytes from r to buf and reports whether r may have more. It charges
// the buffer's memory to a.
func readUpTo(r io.Reader, buf []byte, limit int, a *allowance) (out []byte, more bool, err error) {
	end := len(buf) + limit
	for len(buf) < end {
		if len(buf) == cap(buf) {
			size := min(nextSize(cap(buf)), end)
			// The old and the new buffer exist at the same time.
			if err := a.raise(int64(cap(buf) + size)); err != nil {
				return buf, false, err
			}
			grown := make([]byte, len(buf), size)
			copy(grown, buf)
			buf = grown
		}
		n, err := r.Read(buf[len(buf):min(cap(buf), end)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, false, nil
		}
		if err != nil {
			return buf, false, err
		}
	}
	return buf, true, nil
}

// popValues pops values from the store and charges their memory to allowance. A store that can stream
// values may have values too large for memory, so popValues measures them first.
func (s *space) popValues(ctx context.Context, allowance *allowance, keys []string) ([][]byte, error) {
	if _, ok := s.store.(partd.Opener); ok {
		remaining := s.pops.limit()
		for _, k := range keys {
			n, err := s.valueSize(ctx, k, remaining)
			if err != nil {
				return nil, err
			}
			remaining -= n
			if remaining < 0 {
				return nil, fmt.Errorf("%w: the values of %d keys together have more than %d bytes, a quarter of the server's memory: pop fewer keys, or read them with Open and delete them",
					partd.ErrTooLarge, len(keys), s.pops.limit())
			}
		}
		if err := allowance.raise(allowance.total + freeBytes + s.pops.limit() - remaining); err != nil {
			return nil, err
		}
	}
	defer s.changes.Add(1)
	values, err := partd.Pop(ctx, s.store, keys...)
	if lost, ok := errors.AsType[*storekit.PopError](err); ok {
		err = errors.Join(lost.Err, lost.Restore(context.WithoutCancel(ctx)))
	}
	return values, err
}

// valueSize returns the length of a value, or limit+1 if it is longer than limit.
func (s *space) valueSize(ctx context.Context, key string, limit int64) (int64, error) {
	r, err := partd.Open(ctx, s.store, key)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r, limit+1))
	return n, errors.Join(err, r.Close())
}
