package objstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-partd/partd/internal/engine/segment"
)

// sequentialReader adapts a response body to io.ReaderAt. Each read must begin where the last one ended.
type sequentialReader struct {
	r   io.ReadCloser
	off int64
}

// ReadAt implements io.ReaderAt. If the connection breaks, it returns an error other than io.EOF.
func (b *sequentialReader) ReadAt(p []byte, off int64) (n int, err error) {
	if off != b.off {
		return 0, errOutOfRange
	}
	for n < len(p) && err == nil {
		var m int
		m, err = b.r.Read(p[n:])
		n += m
	}
	b.off += int64(n)
	if n == len(p) {
		err = nil
	}
	return n, err
}

// open returns a reader for the hash ranges [first, end) of a segment. It makes one request, unless the
// segment is cached in memory.
func (v view) open(ctx context.Context, g *committedSegment, first, end int) (*segment.Reader, io.Closer, error) {
	start, stop := g.Start+int64(g.Offsets[first]), g.Start+int64(g.Offsets[end])
	b := &sequentialReader{off: start}
	if g.data != nil {
		b.r = io.NopCloser(bytes.NewReader(g.data[start:stop]))
	} else {
		var err error
		b.r, err = v.catalog.bucket.ReadRange(ctx, g.object, g.base+start, stop-start)
		if err != nil {
			return nil, nil, err
		}
	}
	file := g.file
	file.ReaderAt = b
	r := new(segment.Reader)
	r.Reset(&file, start, stop)
	return r, b.r, nil
}

// read opens the hash ranges [first, end) of a segment and passes their reader to handle. If the request or
// handle fails, read retries both until a time limit expires. If progress is not nil, handle may increase
// *progress to restart the limit.
func (v view) read(
	ctx context.Context, g *committedSegment, first, end int, progress *int, handle func(*segment.Reader) error,
) error {
	if g.Offsets[first] == g.Offsets[end] {
		return nil
	}
	err := Retry(ctx, v.catalog.opts.RetryFor, v.catalog.opts.tableSize(), progress, func(ctx context.Context) error {
		r, c, err := v.open(ctx, g, first, end)
		if err != nil {
			return err
		}
		defer c.Close() //nolint:errcheck // if handle succeeded, it has verified the data
		return handle(r)
	})
	return v.catalog.explainMissing(ctx, v, g, err)
}

// load appends the entries in the hash ranges [first, end) of a segment to b.
func (v view) load(ctx context.Context, g *committedSegment, first, end int, b []byte) ([]byte, error) {
	start := len(b)
	err := v.read(ctx, g, first, end, nil, func(r *segment.Reader) error {
		b = b[:start]
		return segment.EachBlock(r, func(block []byte) error {
			if len(b)+len(block) > cap(b) { // b must not grow, because it is part of an arena
				return r.Corrupt("the entries are larger than the blocks that contain them")
			}
			b = append(b, block...)
			return nil
		})
	})
	return b, err
}

var errStop = errors.New("the consumer stopped the iteration")

// stream calls f for each entry in the hash ranges [first, end) of a segment, until f returns an
// error. When it repeats a request, it skips the entries that f has already received.
func (v view) stream(ctx context.Context, g *committedSegment, first, end int, f func(e *segment.Entry) error) error {
	// passed is the number of entries passed to f. If f is slow, the server may close connections, so read
	// retries as long as f makes progress.
	var passed int
	var fErr error
	err := v.read(ctx, g, first, end, &passed, func(r *segment.Reader) error {
		n := 0
		err := segment.EachEntry(r, func(e *segment.Entry) error {
			n++
			if n <= passed {
				return nil
			}
			passed = n
			fErr = f(e)
			return fErr
		})
		if fErr != nil {
			return nil
		}
		if errors.Is(err, segment.ErrShortEntry) || errors.Is(err, segment.ErrBadEntry) {
			return g.file.Corrupt(g.Start, fmt.Errorf("in the hash ranges [%d, %d): %w", first, end, err))
		}
		return err
	})
	return cmp.Or(fErr, err)
}
