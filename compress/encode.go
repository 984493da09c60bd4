package compress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/layer"
	"github.com/go-partd/partd/storekit"
)

const (
	shareBytes       = 32 << 10 // minimum size of a share, in bytes of values; only the last share of a batch may be smaller
	maxPooled        = 4 << 20  // capacity, in bytes, of the largest buffer that is reused
	maxPooledEntries = 16 << 10 // capacity of the longest list of entries that is reused
)

// batch holds the compressed entries of one Append, and the memory for them.
type batch struct {
	entries []partd.Entry
	spans   []span
	shares  []share
	buffers []([]byte) // compressed values; one buffer for each goroutine
}

type share struct{ start, end int } // range of entries that a goroutine compresses before it takes another share

// span locates a compressed value: buffers[buffer][start:end].
type span struct{ buffer, start, end int }

// release returns b to the pool, unless its lists have grown too long.
func (s *Store) release(b *batch) {
	if cap(b.entries) > maxPooledEntries {
		return
	}
	clear(b.entries) // do not retain the caller's keys
	for i, buffer := range b.buffers {
		if cap(buffer) > maxPooled {
			b.buffers[i] = nil
		}
	}
	s.batches.Put(b)
}

// compress returns the entries with compressed values, which are valid until b is released.
func (s *Store) compress(ctx context.Context, op string, b *batch, entries []partd.Entry) ([]partd.Entry, error) {
	if _, err := storekit.CheckEntries(op, entries); err != nil {
		return nil, err
	}
	if s.inner == nil {
		return nil, &partd.Error{Op: op, Path: s.name(), Err: layer.ErrNoStore}
	}
	b.divide(entries)
	workers := min(len(b.shares), runtime.GOMAXPROCS(0))
	for len(b.buffers) < workers {
		b.buffers = append(b.buffers, nil)
	}
	for w := range workers {
		b.buffers[w] = b.buffers[w][:0]
	}
	err := s.parallelDo(ctx, op, workers, len(b.shares), func(w, i int) error {
		assigned, buffer := b.shares[i], b.buffers[w]
		for i := assigned.start; i < assigned.end; i++ {
			start := len(buffer)
			var err error
			if buffer, err = s.appendPieces(buffer, entries[i].Value); err != nil {
				return &partd.Error{Op: op, Key: entries[i].Key, HasKey: true, Path: s.name(), Err: err}
			}
			b.spans[i] = span{w, start, len(buffer)}
		}
		b.buffers[w] = buffer
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range b.entries {
		location := b.spans[i]
		b.entries[i] = partd.Entry{Key: entries[i].Key, Value: b.buffers[location.buffer][location.start:location.end:location.end]}
	}
	return b.entries, nil
}

func (b *batch) divide(entries []partd.Entry) {
	if cap(b.entries) < len(entries) {
		b.entries, b.spans = make([]partd.Entry, len(entries)), make([]span, len(entries))
	}
	b.entries, b.spans = b.entries[:len(entries)], b.spans[:len(entries)]
	b.shares = b.shares[:0]
	start, size := 0, 0
	for i := range entries {
		if size += len(entries[i].Value); size >= shareBytes {
			b.shares = append(b.shares, share{start, i + 1})
			start, size = i+1, 0
		}
	}
	if start < len(entries) {
		b.shares = append(b.shares, share{start, len(entries)})
	}
}

// appendPieces appends a value to dst, compressed and framed. An empty value needs no frame; a
// value longer than s.limit needs several.
func (s *Store) appendPieces(dst, value []byte) ([]byte, error) {
	for len(value) > 0 {
		content := value[:min(int64(len(value)), s.limit)]
		value = value[len(content):]
		start := len(dst)
		var err error
		if dst, err = s.codec.encode(frame.Begin(dst), content); err != nil {
			return dst[:start], err
		}
		dst = frame.End(dst, start)
	}
	return dst, nil
}

// packer compresses pieces. It reuses the writers of a compression library.
type packer struct {
	newWriter func() (pieceWriter, error)
	pool      sync.Pool // holds pieceWriters
}

type pieceWriter interface {
	io.WriteCloser
	Reset(w io.Writer)
}

func (p *packer) encode(dst, src []byte) ([]byte, error) {
	w, _ := p.pool.Get().(pieceWriter)
	if w == nil {
		var err error
		if w, err = p.newWriter(); err != nil {
			return dst, err
		}
	}
	out := bytes.NewBuffer(dst)
	w.Reset(out)
	_, err := w.Write(src)
	if err = errors.Join(err, w.Close()); err != nil {
		return dst, err
	}
	w.Reset(nil)
	p.pool.Put(w)
	return out.Bytes(), nil
}
