package compress

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/layer"
	"github.com/go-partd/partd/storekit"
)

const windowBytes = 64 << 10 // number of bytes read or decompressed at a time

// getWindow returns a buffer of windowBytes. The caller must return it with s.windows.Put.
func (s *Store) getWindow() *[]byte {
	if w, ok := s.windows.Get().(*[]byte); ok {
		return w
	}
	return new(make([]byte, 0, windowBytes))
}

// Open returns a reader of the decompressed value. The reader fails once ctx ends.
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	inner, err := partd.Open(ctx, s.innerStore(), key)
	if err != nil {
		return nil, err
	}
	return s.newReader(ctx, "open", key, inner), nil
}

func (s *Store) newReader(ctx context.Context, op, key string, inner io.ReadCloser) *openReader {
	o := &openReader{inner: inner, window: s.getWindow()}
	o.value.store = s
	window := (*o.window)[:windowBytes]
	o.nextWindow = func() ([]byte, error) {
		for {
			n, err := inner.Read(window)
			if n > 0 {
				return window[:n], nil // ignore err: the next Read returns it again
			}
			if err != nil {
				return nil, err
			}
		}
	}
	o.value.start(ctx, op, key, o.nextWindow)
	return o
}

// openReader is the reader that Open returns. Only Close may be called concurrently with
// another method.
type openReader struct {
	mu         sync.Mutex
	inner      io.ReadCloser
	value      valueReader
	window     *[]byte // nil after Close
	nextWindow func() ([]byte, error)
}

// Rewind implements [storekit.Rewinder] if the reader of the underlying store does.
func (o *openReader) Rewind() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	inner, ok := o.inner.(storekit.Rewinder)
	switch {
	case o.window == nil:
		return &partd.Error{Op: "rewind", Key: o.value.key, HasKey: true, Path: o.value.store.name(), Err: partd.ErrClosed}
	case !ok:
		return &partd.Error{Op: "rewind", Key: o.value.key, HasKey: true, Path: o.value.store.name(), Err: errors.ErrUnsupported}
	}
	if err := inner.Rewind(); err != nil {
		return err
	}
	o.value.start(o.value.ctx, o.value.op, o.value.key, o.nextWindow)
	return nil
}

func (o *openReader) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.window == nil {
		return 0, &partd.Error{Op: "read", Key: o.value.key, HasKey: true, Path: o.value.store.name(), Err: partd.ErrClosed}
	}
	return o.value.Read(p)
}

func (o *openReader) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.window == nil {
		return nil
	}
	o.value.stop()
	o.value.store.windows.Put(o.window)
	o.window = nil
	return o.inner.Close()
}

type scan struct {
	ctx   context.Context
	keys  *layer.Reader
	value valueReader
}

func (s *Store) newScan(ctx context.Context, stored iter.Seq2[partd.Chunk, error]) (c *scan, stop func()) {
	c = &scan{ctx: ctx}
	c.value.store = s
	c.keys, stop = layer.NewReader(stored, s.name())
	return c, stop
}

// nextKey makes c.value read the value of the next key. It returns io.EOF after the last key.
// Errors name the operation op.
func (c *scan) nextKey(op string) error {
	err := c.keys.Next()
	if err != nil {
		return err
	}
	c.value.start(c.ctx, op, c.keys.Key, c.keys.Data)
	return nil
}

// Scan yields the chunks of all decompressed values. A chunk's data is valid until the
// next iteration. Scan uses 384 KiB of memory, and the memory for decompressing one piece.
func (s *Store) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	return s.decompressedChunks(ctx, partd.Scan(ctx, s.innerStore()))
}

// ScanPart is Scan for the keys of one of several parts; see [partd.ScanPart].
func (s *Store) ScanPart(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	return s.decompressedChunks(ctx, partd.ScanPart(ctx, s.innerStore(), part, parts))
}

func (s *Store) decompressedChunks(ctx context.Context, stored iter.Seq2[partd.Chunk, error]) iter.Seq2[partd.Chunk, error] {
	return func(yield func(partd.Chunk, error) bool) {
		c, stop := s.newScan(ctx, stored)
		defer stop()
		defer c.value.stop()
		current, ahead := s.getWindow(), s.getWindow()
		defer func() {
			s.windows.Put(current)
			s.windows.Put(ahead)
		}()
		for {
			err := c.nextKey("scan")
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(partd.Chunk{}, err)
				return
			}
			if !c.yieldKey(current, ahead, yield) {
				return
			}
		}
	}
}

// yieldKey yields the value of the current key in chunks. It returns false if the scan must
// end. It reads one chunk ahead, to know which chunk is the last. current and ahead hold the two.
func (c *scan) yieldKey(current, ahead *[]byte, yield func(partd.Chunk, error) bool) bool {
	key, offset := c.keys.Key, int64(0)
	data, err := c.fill((*current)[:0])
	for {
		if err != nil && err != io.EOF {
			yield(partd.Chunk{}, err)
			return false
		}
		var nextData []byte
		var nextErr error
		if err == nil {
			nextData, nextErr = c.fill((*ahead)[:0])
		}
		isLast := err == io.EOF || nextErr == io.EOF && len(nextData) == 0
		if !yield(partd.Chunk{Key: key, Offset: offset, Data: data, Last: isLast}, nil) {
			return false
		}
		if isLast {
			return true
		}
		offset += int64(len(data))
		data, err = nextData, nextErr
		current, ahead = ahead, current
	}
}

// fill decompresses the current value into buf until it is full. It returns io.EOF at the
// value's end.
func (c *scan) fill(buf []byte) ([]byte, error) {
	for len(buf) < cap(buf) {
		n, err := c.value.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// Keys yields each key with the decompressed size of its value. It must read all values,
// because the underlying store knows only compressed sizes. It must even decompress the
// values if the format is Zlib, Gzip or BZ2, because these do not store the sizes.
func (s *Store) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return func(yield func(partd.KeyInfo, error) bool) {
		c, stop := s.newScan(ctx, partd.Scan(ctx, s.innerStore()))
		defer stop()
		defer c.value.stop()
		scratch := s.getWindow()
		defer s.windows.Put(scratch)
		for {
			err := c.nextKey("keys")
			if err == io.EOF {
				return
			}
			info := partd.KeyInfo{Key: c.keys.Key}
			if err == nil {
				info.Size, err = c.value.measure((*scratch)[:windowBytes])
			}
			if err != nil {
				yield(partd.KeyInfo{}, err)
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Stat describes the underlying store, with the decompressed sizes of values. It reads
// all values, as Keys does.
func (s *Store) Stat(ctx context.Context) (partd.Stats, error) {
	stats, err := partd.Stat(ctx, s.innerStore())
	if err != nil {
		return partd.Stats{}, err
	}
	counts, err := partd.Stat(ctx, struct {
		partd.Partd
		partd.Lister
	}{s, s})
	stats.Keys, stats.Bytes = counts.Keys, counts.Bytes
	return stats, err
}
