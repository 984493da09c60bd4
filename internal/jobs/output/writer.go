package output

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/go-partd/partd/internal/base/canceled"
)

const (
	bufferSize  = 512 << 10
	bufferCount = 3
)

// Writer writes in the background, so that the caller rarely waits. It uses 1.5 MiB of memory.
type Writer struct {
	ctx          context.Context
	w            io.Writer
	buf          []byte
	emptyBuffers chan []byte
	fullBuffers  chan []byte
	done         chan struct{}
	bytes        int64

	mu      sync.Mutex
	err     error
	written int64
}

// NewWriter returns a Writer that writes to w. The caller must close the Writer. After ctx ends,
// the Writer does not wait for a write that hangs.
func NewWriter(ctx context.Context, w io.Writer) *Writer {
	b := &Writer{ctx: ctx, w: w, emptyBuffers: make(chan []byte, bufferCount), fullBuffers: make(chan []byte, bufferCount), done: make(chan struct{})}
	for range bufferCount {
		b.emptyBuffers <- make([]byte, 0, bufferSize)
	}
	b.buf = <-b.emptyBuffers
	go b.run()
	return b
}

func (b *Writer) run() {
	defer close(b.done)
	for p := range b.fullBuffers {
		if b.firstError() == nil {
			n, err := b.w.Write(p)
			b.mu.Lock()
			b.written += int64(n)
			b.err = err
			b.mu.Unlock()
		}
		b.emptyBuffers <- p[:0]
	}
}

func (b *Writer) firstError() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// Write copies p. It can return the error from an earlier write to the file.
func (b *Writer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if b.buf == nil {
			return 0, canceled.Err(b.ctx)
		}
		k := copy(b.buf[len(b.buf):cap(b.buf)], p)
		b.buf, p = b.buf[:len(b.buf)+k], p[k:]
		if len(b.buf) == cap(b.buf) {
			b.fullBuffers <- b.buf // never blocks: the channel has room for all buffers
			var err error
			b.buf, err = canceled.Receive(b.ctx, b.emptyBuffers)
			if err == nil {
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

// Close writes the remaining bytes and returns the first error from any write.
func (b *Writer) Close() error {
	if b.buf != nil {
		b.fullBuffers <- b.buf
	}
	close(b.fullBuffers)
	if err := canceled.Wait(b.ctx, b.done); err != nil {
		return err
	}
	if err := b.firstError(); err != nil || b.written == b.bytes {
		return err
	}
	return fmt.Errorf("%d of %d bytes were written", b.written, b.bytes)
}
