package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-partd/partd/internal/segment"
)

// readPart reads a part of an object that should be short, or all that follows.
func (s *Store) readPart(ctx context.Context, name string, off, n int64) ([]byte, error) {
	r, err := s.bucket.ReadRange(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

// body is a segment whose bytes arrive in order.
type body struct {
	r  io.ReadCloser
	at int64
}

// ReadAt tells the end of an object, io.EOF, from a connection that broke off.
func (b *body) ReadAt(p []byte, off int64) (n int, err error) {
	if off != b.at {
		return 0, errOutside
	}
	for n < len(p) && err == nil {
		var m int
		m, err = b.r.Read(p[n:])
		n += m
	}
	b.at += int64(n)
	if n == len(p) {
		err = nil
	}
	return n, err
}

// open requests some ranges of a segment, from the first to the one before end.
func (s *Store) open(ctx context.Context, g *stored, first, end int) (*segment.Reader, io.Closer, error) {
	from, to := g.Start+int64(g.Off[first]), g.Start+int64(g.Off[end])
	b := &body{at: from}
	if g.data != nil {
		b.r = io.NopCloser(bytes.NewReader(g.data[from:to]))
	} else {
		var err error
		if b.r, err = s.bucket.ReadRange(ctx, g.object, g.base+from, to-from); err != nil {
			return nil, nil, err
		}
	}
	file := g.file
	file.ReaderAt = b
	r := new(segment.Reader)
	r.Reset(&file, from, to)
	return r, b.r, nil
}

// load appends the entries of some ranges of a segment to b, by one request.
func (s *Store) load(ctx context.Context, v view, g *stored, first, end int, b []byte) ([]byte, error) {
	if g.Off[first] == g.Off[end] || s.opts.hooks.skip != nil && s.opts.hooks.skip(g.object) {
		return b, nil
	}
	start := len(b)
	err := s.retry(ctx, func(ctx context.Context) error {
		r, c, err := s.open(ctx, g, first, end)
		if err != nil {
			return err
		}
		b = b[:start]
		err = segment.EachBlock(r, func(block []byte) error {
			if len(b)+len(block) > cap(b) { // others' follow it
				return r.Corrupt("its blocks hold more than they take")
			}
			b = append(b, block...)
			return nil
		})
		return errors.Join(err, c.Close())
	})
	return b, s.explain(ctx, v, g, err)
}

// errStop ends a stream before its end.
var errStop = errors.New("enough")

// stream calls f for the entries of some ranges of a segment, each once. An error of
// f ends it.
func (s *Store) stream(ctx context.Context, v view, g *stored, first, end int, f func(e *segment.Entry) error) error {
	if g.Off[first] == g.Off[end] || s.opts.hooks.skip != nil && s.opts.hooks.skip(g.object) {
		return nil
	}
	var done int // entries that f has had
	var fErr error
	// f may take its time, in which connections end: as long as it gets on, that is no failure.
	err := Retry(ctx, s.opts.RetryFor, s.tableSize(), &done, func(ctx context.Context) error {
		r, c, err := s.open(ctx, g, first, end)
		if err != nil {
			return err
		}
		n := 0
		err = segment.EachEntry(r, func(e *segment.Entry) error {
			if n++; n <= done {
				return nil
			}
			done = n
			fErr = f(e)
			return fErr
		})
		if err = errors.Join(err, c.Close()); fErr != nil {
			return nil
		}
		if errors.Is(err, segment.ErrShortEntry) || errors.Is(err, segment.ErrBadEntry) {
			return g.file.Corrupt(g.Start, fmt.Errorf("between ranges %d and %d: %w", first, end, err))
		}
		return err
	})
	if fErr != nil {
		return fErr
	}
	return s.explain(ctx, v, g, err)
}
