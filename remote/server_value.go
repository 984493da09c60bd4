package remote

import (
	"context"
	"errors"
	"io"

	"github.com/go-partd/partd"
)

// value is a value, or its begin.
type value struct {
	data []byte        // at the end of buf, or memory that the store gave away
	buf  []byte        // what was given to append to
	rest io.ReadCloser // what follows data, nil if nothing does
}

// readValue reads a value up to a limit. A store that can stream is read to
// the end of buf; of any other the value comes whole, as it must.
func (s *space) readValue(ctx context.Context, key string, buf []byte, limit int, a *allowance) (value, error) {
	opener, ok := s.store.(partd.Opener)
	if !ok {
		return s.getValue(ctx, key, buf, a)
	}
	if a.account.quotas.crowded() {
		// Who waits for memory should not have a reader open meanwhile.
		if err := a.hold(free + 1); err != nil {
			return value{}, err
		}
	}
	r, err := opener.Open(ctx, key)
	if errors.Is(err, errors.ErrUnsupported) {
		return s.getValue(ctx, key, buf, a)
	}
	if err != nil {
		return value{}, err
	}
	start := len(buf)
	buf, more, err := readUpTo(r, buf, limit, a)
	if err != nil {
		return value{}, errors.Join(err, r.Close())
	}
	v := value{data: buf[start:], buf: buf}
	if more {
		v.rest = r
		return v, nil
	}
	return v, r.Close()
}

// getValue gets a value whole. How large it is shows when it is there: it is
// charged then, and nobody gets another before the budget is in order again.
func (s *space) getValue(ctx context.Context, key string, buf []byte, a *allowance) (value, error) {
	if err := a.hold(free + 1); err != nil {
		return value{}, err
	}
	values, err := s.store.Get(ctx, key)
	if err != nil {
		return value{}, err
	}
	a.force(int64(cap(buf) + len(values[0])))
	return value{data: values[0], buf: buf}, nil
}

// nextSize is how large memory becomes that is full. The steps are far apart, as
// each is a copy; a value of 1 MiB fits one of them.
func nextSize(size int) int {
	for _, step := range []int{4 << 10, 64 << 10, 256 << 10, keepBuffer} {
		if size < step {
			return step
		}
	}
	return 4 * size
}

// readUpTo appends what a reader has to buf, up to a limit, and reports whether
// there may be more.
func readUpTo(r io.Reader, buf []byte, limit int, a *allowance) (out []byte, more bool, err error) {
	end := len(buf) + limit
	for len(buf) < end {
		if len(buf) == cap(buf) {
			size := min(nextSize(cap(buf)), end)
			// The old memory and the new are there while one is copied.
			if err := a.hold(int64(cap(buf) + size)); err != nil {
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
