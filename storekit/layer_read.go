package storekit

import (
	"context"
	"errors"
	"io"
	"iter"
	"runtime"
	"slices"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
)

const windowBytes = 64 << 10 // number of bytes read at a time

// getWindow returns a buffer of windowBytes. The caller must return it with l.windows.Put.
func (l *Layer) getWindow() *[]byte {
	if w, ok := l.windows.Get().(*[]byte); ok {
		return w
	}
	return new(make([]byte, 0, windowBytes))
}

// stream reads values through Out, one after another.
type stream struct {
	layer   *Layer
	ctx     context.Context
	op, key string
	stored  watchedSource
	value   io.Reader // the reader that Out returned
	err     error     // first error, or io.EOF at the end

	// At most one of these sources is in use, as stored. They are fields to avoid allocations.
	scanned partd.Value
	memory  memory
}

// source reads stored bytes.
type source interface {
	io.Reader
	Next() ([]byte, error) // returns more bytes, valid until the next call, or io.EOF
}

// watchedSource is a source that remembers the error from the store beneath.
type watchedSource struct {
	source
	err error
}

func (w *watchedSource) Read(p []byte) (int, error) {
	n, err := w.source.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

func (w *watchedSource) Next() ([]byte, error) {
	data, err := w.source.Next()
	if err != nil && err != io.EOF {
		w.err = err
	}
	return data, err
}

// open starts to read a value. The caller must close the previous one.
func (s *stream) open(key string, stored source) {
	s.key, s.stored, s.err = key, watchedSource{source: stored}, nil
	s.value = s.layer.hooks.Out(s.ctx, key, &s.stored)
}

func (s *stream) openScanned(v partd.Value) {
	s.scanned = v
	s.open(v.Key, &s.scanned)
}

func (s *stream) close() {
	if c, ok := s.value.(io.Closer); ok {
		_ = c.Close() // the value has been read, or the rest is not needed
	}
}

// check returns the error to report after s.value returned err: the context's error if the context
// has ended, the error from the store beneath if reading failed there, and otherwise err with the
// operation and the key.
func (s *stream) check(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if ended := canceled.Err(s.ctx); ended != nil {
		err = ended
	} else if s.stored.err != nil && errors.Is(err, s.stored.err) {
		return err
	}
	return s.layer.keyError(s.op, s.key, err)
}

// Read reads the value.
func (s *stream) Read(p []byte) (n int, err error) {
	if s.err == nil {
		s.err = s.check(canceled.Err(s.ctx))
		if s.err == nil {
			n, err = s.value.Read(p)
			s.err = s.check(err)
		}
	}
	if n > 0 {
		return n, nil
	}
	return 0, s.err
}

// fill reads the value into buf until it is full. It returns io.EOF at the value's end.
func (s *stream) fill(buf []byte) ([]byte, error) {
	for len(buf) < cap(buf) {
		n, err := s.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// memory is a source of stored bytes that are in memory.
type memory []byte

func (m *memory) Read(p []byte) (int, error) {
	if len(*m) == 0 {
		return 0, io.EOF
	}
	n := copy(p, *m)
	*m = (*m)[n:]
	return n, nil
}

func (m *memory) Next() ([]byte, error) {
	if len(*m) == 0 {
		return nil, io.EOF
	}
	data := *m
	*m = nil
	return data, nil
}

// readAll passes stored values through Out, several of them in parallel.
func (l *Layer) readAll(ctx context.Context, op string, keys []string, stored [][]byte) ([][]byte, error) {
	if l.hooks.Out == nil {
		return stored, nil
	}
	total := 0
	for _, v := range stored {
		total += len(v)
	}
	values := make([][]byte, len(stored))
	workers := min(len(stored), total/shareBytes, runtime.GOMAXPROCS(0))
	err := l.parallel(ctx, op, workers, len(stored), func(_, i int) (err error) {
		values[i], err = l.readValue(ctx, op, keys[i], stored[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}

func (l *Layer) readValue(ctx context.Context, op, key string, stored []byte) (value []byte, err error) {
	s, ok := l.streams.Get().(*stream)
	if !ok {
		s = new(stream)
	}
	s.layer, s.ctx, s.op, s.memory = l, ctx, op, stored
	s.open(key, &s.memory)
	defer func() {
		s.close()
		*s = stream{}
		l.streams.Put(s)
	}()
	if r, ok := s.value.(interface{ ReadAll() ([]byte, error) }); ok {
		value, err = r.ReadAll()
		return value, s.check(err)
	}
	value = make([]byte, 0, len(stored)+1) // the spare byte lets fill reach EOF without growing a value as long as stored
	for {
		value, err = s.fill(value)
		if err == io.EOF {
			return value, nil
		}
		if err != nil {
			return nil, err
		}
		value = slices.Grow(value, max(512, len(value)))
	}
}

// size returns the length of a value. If the reader that Out returned cannot tell, size reads the
// value into scratch.
func (s *stream) size(v partd.Value, scratch []byte) (size int64, err error) {
	s.openScanned(v)
	defer s.close()
	if r, ok := s.value.(interface{ Size() (int64, error) }); ok {
		size, err = r.Size()
		return size, s.check(err)
	}
	for err == nil {
		n := 0
		n, err = s.Read(scratch)
		size += int64(n)
	}
	if err == io.EOF {
		err = nil
	}
	return size, err
}

func (l *Layer) readChunks(ctx context.Context, stored iter.Seq2[partd.Chunk, error]) iter.Seq2[partd.Chunk, error] {
	if l.hooks.Out == nil {
		return stored
	}
	return func(yield func(partd.Chunk, error) bool) {
		current, ahead := l.getWindow(), l.getWindow()
		defer func() {
			l.windows.Put(current)
			l.windows.Put(ahead)
		}()
		s := &stream{layer: l, ctx: ctx, op: "scan"}
		for v, err := range partd.Values(stored) {
			if err != nil {
				yield(partd.Chunk{}, err)
				return
			}
			s.openScanned(v)
			if !s.yieldChunks(current, ahead, yield) {
				return
			}
		}
	}
}

// yieldChunks yields the value in chunks and closes it. It returns false if the scan must end. It reads one
// chunk ahead, to know which chunk is the last. current and ahead are buffers for the two chunks.
func (s *stream) yieldChunks(current, ahead *[]byte, yield func(partd.Chunk, error) bool) bool {
	defer s.close() // even if yield panics
	offset := int64(0)
	data, err := s.fill((*current)[:0])
	for {
		if err != nil && err != io.EOF {
			yield(partd.Chunk{}, err)
			return false
		}
		var nextData []byte
		var nextErr error
		if err == nil {
			nextData, nextErr = s.fill((*ahead)[:0])
		}
		isLast := err == io.EOF || nextErr == io.EOF && len(nextData) == 0
		if !yield(partd.Chunk{Key: s.key, Offset: offset, Data: data, Last: isLast}, nil) {
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

// Open returns a reader of a key's value. The reader fails once ctx ends.
func (l *Layer) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	inner, err := partd.Open(ctx, l.inner(), key)
	if err != nil || l.hooks.Out == nil {
		return inner, err
	}
	o := &openReader{inner: inner, window: l.getWindow(), stream: stream{layer: l, ctx: ctx, op: "open"}}
	o.stream.open(key, o.stored())
	return o, nil
}

// openReader is the reader that Open returns. Only Close may be called concurrently with another
// method.
type openReader struct {
	mu     sync.Mutex
	inner  io.ReadCloser
	window *[]byte // nil after Close
	stream stream
}

// windowSource is the source of an openReader.
type windowSource struct {
	io.Reader
	window []byte
}

func (o *openReader) stored() source { return windowSource{o.inner, (*o.window)[:windowBytes]} }

func (s windowSource) Next() ([]byte, error) {
	for {
		n, err := s.Read(s.window)
		if n > 0 {
			return s.window[:n], nil // ignore err: the next Read returns it again
		}
		if err != nil {
			return nil, err
		}
	}
}

func (o *openReader) closedError(op string) error {
	return o.stream.layer.keyError(op, o.stream.key, partd.ErrClosed)
}

// Rewind implements [Rewinder] if the reader from the store beneath does.
func (o *openReader) Rewind() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	inner, ok := o.inner.(Rewinder)
	switch {
	case o.window == nil:
		return o.closedError("rewind")
	case !ok:
		return o.stream.layer.keyError("rewind", o.stream.key, errors.ErrUnsupported)
	}
	if err := inner.Rewind(); err != nil {
		return err
	}
	o.stream.close()
	o.stream.open(o.stream.key, o.stored())
	return nil
}

func (o *openReader) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.window == nil {
		return 0, o.closedError("read")
	}
	return o.stream.Read(p)
}

func (o *openReader) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.window == nil {
		return nil
	}
	o.stream.close()
	o.stream.layer.windows.Put(o.window)
	o.window = nil
	return o.inner.Close()
}
