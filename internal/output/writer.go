package output

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/go-partd/partd/internal/canceled"
)

const (
	bufferSize = 512 << 10
	buffers    = 3
)

// Writer writes in the background, so that the producer of the data does not wait for the
// file. It uses 1.5 MiB of memory.
type Writer struct {
	ctx   context.Context
	w     io.Writer
	buf   []byte
	empty chan []byte
	full  chan []byte
	done  chan struct{}
	bytes int64

	mu      sync.Mutex
	err     error
	written int64
}

// NewWriter returns a writer to w. It must be closed. After the end of ctx, it does not wait
// for a write that hangs.
func NewWriter(ctx context.Context, w io.Writer) *Writer {
	b := &Writer{ctx: ctx, w: w, empty: make(chan []byte, buffers), full: make(chan []byte, buffers), done: make(chan struct{})}
	for range buffers {
		b.empty <- make([]byte, 0, bufferSize)
	}
	b.buf = <-b.empty
	go b.run()
	return b
}

func (b *Writer) run() {
	defer close(b.done)
	for p := range b.full {
		if b.firstError() == nil {
			n, err := b.w.Write(p)
			b.mu.Lock()
			b.written += int64(n)
			b.err = err
			b.mu.Unlock()
		}
		b.empty <- p[:0]
	}
}

func (b *Writer) firstError() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// Write copies p. It may return the error of an earlier write.
func (b *Writer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if b.buf == nil {
			return 0, canceled.Err(b.ctx)
		}
		k := copy(b.buf[len(b.buf):cap(b.buf)], p)
		b.buf, p = b.buf[:len(b.buf)+k], p[k:]
		if len(b.buf) == cap(b.buf) {
			b.full <- b.buf // has room for all buffers
			var err error
			if b.buf, err = canceled.Receive(b.ctx, b.empty); err == nil {
				err = b.firstError()
			}
			if err != nil {
				return 0, err
			}
		}
	}
	b.bytes += int64(n)
	return n, nil
}

// Bytes returns the number of bytes passed to Write.
func (b *Writer) Bytes() int64 { return b.bytes }

// Close writes the remaining bytes, and returns the first error of all writes.
func (b *Writer) Close() error {
	if b.buf != nil {
		b.full <- b.buf
	}
	close(b.full)
	if err := canceled.Wait(b.ctx, b.done); err != nil {
		return err
	}
	if err := b.firstError(); err != nil || b.written == b.bytes {
		return err
	}
	return fmt.Errorf("%d of %d bytes were written", b.written, b.bytes)
}
