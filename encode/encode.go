// Package encode stores values of a Go type instead of bytes.
//
// A [ValueCodec] turns a value into bytes and back. It joins the values that were
// appended to one key. [New] wraps any store with a codec:
//
//	people := encode.New(store, encode.JSON[[]Person]())
//	err := people.Append(ctx, encode.Entry[[]Person]{Key: "FR", Value: []Person{{Name: "Ada"}}})
//	groups, err := people.Get(ctx, "FR") // groups[0] is all that was appended, a []Person
//
// A store keeps each appended value in a frame (see package frame), as Python's class partd.Encode
// does. Some codecs and stores read and write the same data as classes of the Python package partd:
//
//   - [Python] and [Pickle]: partd.Python and partd.Pickle, limited to plain values:
//     numbers, text, bytes, and containers such as lists and dicts
//   - [NumPy]: partd.Numpy
//   - [PandasBlocks] and [PandasColumns]: partd.PandasBlocks and partd.PandasColumns
//
// [JSON], [Gob] and [Bytes] are for programs in Go, and [JSON] and [Bytes] also for other languages.
//
// # Hostile data
//
// No codec in this package executes the data that it reads, and none trusts a length field when it
// allocates memory. A value that Pickle decodes takes at most 384 times its encoded size. A value
// that Python decodes takes at most 128 times its encoded size, or 384 times if it is pickled. A
// frame of PandasBlocks decompresses to at most 1 GiB. For JSON and Gob the limit depends on the
// type, because a byte or two may stand for a large struct. If data does not decode, the error
// wraps a *DecodeError, which says where.
//
// # Experimental
//
// The values of Python ([Python], [Pickle], [NumPy], [PandasBlocks], [PandasColumns] and their types) may change in any
// minor version. docs/versions.md says how the API is graded.
package encode

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/layer"
	"github.com/go-partd/partd/storekit"
)

// ValueCodec encodes and decodes the values of a type and joins the values of a key. You can write
// your own codec, or replace the Join of a codec in this package. Package shuffle also encodes its
// records with codecs, but ignores Join.
//
// The functions must be safe for concurrent use.
type ValueCodec[T any] struct {
	// Encode appends the encoding of v to dst and returns the extended slice. It
	// neither retains nor changes v, nor does it retain dst.
	Encode func(dst []byte, v T) ([]byte, error)
	// Decode decodes all of data. It neither retains nor changes data. The caller owns
	// the value.
	Decode func(data []byte) (T, error)
	// Join combines the values that were appended to a key, in order. Without pieces,
	// Join returns the value that Get returns for a key that does not exist. It may
	// retain the pieces and return one of them.
	Join func(pieces []T) (T, error)
}

// Entry is a value to append to a key.
type Entry[T any] struct {
	Key   string
	Value T
}

// Store stores values of a type in a store of bytes. It is safe for concurrent use if the
// underlying store is. A method that the underlying store does not support returns an
// error that wraps errors.ErrUnsupported.
type Store[T any] struct {
	wrapper
	codec   ValueCodec[T]
	buffers sync.Pool // holds *buffer values
}

// New returns a store of values over p; Close closes both. Several stores, even with
// different codecs, may share p as long as each key is used with one codec. If p is nil or
// the codec is incomplete, every operation fails.
func New[T any](p partd.Partd, codec ValueCodec[T]) *Store[T] {
	if codec.Encode == nil || codec.Decode == nil || codec.Join == nil {
		codec = ValueCodec[T]{
			Decode: func([]byte) (v T, _ error) { return v, errNoCodec },
			Join:   func([]T) (v T, _ error) { return v, errNoCodec },
		}
	}
	return &Store[T]{wrapper: wrapper{p}, codec: codec}
}

var errNoCodec = errors.New("the codec lacks Encode, Decode or Join: pass New a codec with all three")

// Append adds each entry's value to its key, in slice order. A key may occur more than
// once. Append is all or nothing, like the Append of the underlying store. It does not
// retain the values.
func (s *Store[T]) Append(ctx context.Context, entries ...Entry[T]) error {
	b := s.buffer()
	defer s.release(b)
	for i := range entries {
		if err := s.encode(b, "append", entries[i].Key, entries[i].Value); err != nil {
			return err
		}
	}
	return s.innerStore().Append(ctx, b.batch()...)
}

func (s *Store[T]) encode(b *buffer, op, key string, v T) error {
	if s.codec.Encode == nil {
		return &partd.Error{Op: op, Key: key, HasKey: true, Err: errNoCodec}
	}
	start := len(b.bytes)
	bytes, err := s.codec.Encode(frame.Begin(b.bytes), v)
	if err != nil {
		return &partd.Error{Op: op, Key: key, HasKey: true, Err: fmt.Errorf("encode %T: %w", v, err)}
	}
	b.bytes = frame.End(bytes, start)
	b.ends = append(b.ends, len(b.bytes))
	b.entries = append(b.entries, partd.Entry{Key: key})
	return nil
}

type buffer struct {
	bytes   []byte
	ends    []int // offsets in bytes at which the entries' values end
	entries []partd.Entry
}

// maxPooled is the maximum capacity, in bytes, of a buffer to reuse.
const maxPooled = 4 << 20

func (s *Store[T]) buffer() *buffer {
	if b, ok := s.buffers.Get().(*buffer); ok {
		return b
	}
	return &buffer{}
}

// release returns a buffer to the pool. The store must not use b's memory any longer.
func (s *Store[T]) release(b *buffer) {
	if cap(b.bytes) > maxPooled || cap(b.entries) > maxPooled/64 {
		return
	}
	clear(b.entries)
	b.bytes, b.ends, b.entries = b.bytes[:0], b.ends[:0], b.entries[:0]
	s.buffers.Put(b)
}

// batch returns the entries with their values. It must be called after the last call to encode,
// because encode can move the values.
func (b *buffer) batch() []partd.Entry {
	start := 0
	for i, end := range b.ends {
		b.entries[i].Value = b.bytes[start:end:end]
		start = end
	}
	return b.entries
}

// wrapper implements the methods that only call the underlying store.
type wrapper struct{ inner partd.Partd }

func (w wrapper) innerStore() partd.Partd { return layer.StoreOrFailing(w.inner) }

// Flush flushes the underlying store. The layer itself buffers nothing.
func (w wrapper) Flush(ctx context.Context) error { return partd.Flush(ctx, w.innerStore()) }

// Sync returns once all data written before the call will survive a power loss.
func (w wrapper) Sync(ctx context.Context) error { return partd.Sync(ctx, w.innerStore()) }

// Close flushes and closes the underlying store, as [partd.Close] does. To limit the time
// of the flush, instead call partd.Close with the store that was passed to the constructor.
func (w wrapper) Close() error { return partd.Close(context.Background(), w.innerStore()) }

// Unwrap returns the underlying store, for inspection only.
func (w wrapper) Unwrap() partd.Partd { return w.inner }

// DecodeError says where the stored bytes of a key do not decode. A *partd.Error, which
// names the key, wraps it.
type DecodeError struct {
	Offset int64 // offset in bytes of the frame, or of the array elements, that cannot be decoded
	Err    error
}

func (e *DecodeError) Error() string { return fmt.Sprintf("piece at offset %d: %v", e.Offset, e.Err) }

// Unwrap returns the cause.
func (e *DecodeError) Unwrap() error { return e.Err }

// PopError is the error for a Pop that removed values and then could not decode or join them. It
// holds the only copy of the values.
type PopError = storekit.PopError

// ErrNoJoin is wrapped by the error for reading a key with several values that the codec cannot
// join. [Store.All] yields the values one by one.
var ErrNoJoin = errors.New("the codec joins slices and strings only: read the values with All, or give the codec a Join")

// ErrDtype is wrapped by the error for an array with another element type than requested,
// and for a missing or invalid dtype.
var ErrDtype = errors.New("wrong dtype")

func keyError(op, key string, err error) error {
	return &partd.Error{Op: op, Key: key, HasKey: true, Err: err}
}
