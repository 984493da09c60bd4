// Package encode stores values of a Go type instead of bytes.
//
// A [ValueCodec] turns a value into bytes and back, and joins the values that were
// appended to one key into one. [New] puts it in front of any store:
//
//	people := encode.New(store, encode.JSON[[]Person]())
//	err := people.Append(ctx, encode.Entry[[]Person]{Key: "FR", Value: []Person{{Name: "Ada"}}})
//	groups, err := people.Get(ctx, "FR") // groups[0] is all that was appended, a []Person
//
// Each value that is appended becomes one frame of package frame. It is the
// format of the class Encode of Python's partd, and the codecs [Python] and
// [Pickle] write and read what partd.Python and partd.Pickle do, plain values
// only. [NumPy] is the store of arrays that partd.Numpy is; [JSON], [Gob],
// [Msgpack] and [Bytes] are for programs in Go and others.
//
// # Hostile data
//
// No codec of this package executes what it reads, and none takes memory because
// a length says so. How much a value may take is a multiple of the bytes that it
// is read from: for [Pickle] 384 times, for [Python] 128 times or as Pickle; for
// JSON, Gob and Msgpack it depends on the type, since a byte or two may stand for
// a large struct. What does not decode is a [*DecodeError] that says which piece
// it is.
package encode

import (
	"context"
	"fmt"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
)

// ValueCodec turns a value that is appended to a key into bytes and back. Any
// three functions make one; Join can be replaced in a codec of this package, too.
//
// Two others stand beside it: the Codec of package shuffle encodes what a
// shuffle stores and the same program reads back, with no format to agree on; and
// a compress.Format is what a layer compresses bytes into, whatever they are.
type ValueCodec[T any] struct {
	// Encode appends the encoding of a value to dst, as append does, and returns
	// the result, which belongs to the caller, as dst does. It neither keeps nor
	// changes v. What it appended may be overwritten after a failure.
	Encode func(dst []byte, v T) ([]byte, error)
	// Decode returns the value that the whole of data stands for. The value
	// belongs to the caller; data stays the caller's, who uses it again: Decode
	// keeps nothing of it and does not change it.
	Decode func(data []byte) (T, error)
	// Join makes one value of those that were appended to a key, in their order.
	// Of none it makes the value of a key that was never appended to. It may keep
	// the pieces and return one of them.
	Join func(pieces []T) (T, error)
}

// Entry is a value to append to a key.
type Entry[T any] struct {
	Key   string
	Value T
}

// Store stores values of a type in a store of bytes. It is safe for concurrent
// use if the store beneath is. Where that lacks an ability, the method for it
// returns an error that wraps errors.ErrUnsupported.
type Store[T any] struct {
	layer
	codec   ValueCodec[T]
	buffers sync.Pool // of *buffer
}

// New returns a store of values over a store of bytes, which it closes with
// itself. Several may be made over one, also with different codecs, as long as
// each key is used with one.
func New[T any](p partd.Partd, codec ValueCodec[T]) *Store[T] {
	return &Store[T]{layer: layer{p}, codec: codec}
}

// Append adds each entry's value to those of its key, in slice order; a key may
// be given twice. It is all or nothing, as the Append of the store beneath. The
// values are encoded before it returns, and nothing of them is kept.
func (s *Store[T]) Append(ctx context.Context, entries ...Entry[T]) error {
	b := s.buffer()
	defer s.release(b)
	for i := range entries {
		if err := s.encode(b, "append", entries[i].Key, entries[i].Value); err != nil {
			return err
		}
	}
	return s.below.Append(ctx, b.batch()...)
}

// encode adds an entry to a batch.
func (s *Store[T]) encode(b *buffer, op, key string, v T) error {
	start := len(b.bytes)
	bytes, err := s.codec.Encode(frame.Begin(b.bytes), v)
	if err != nil {
		return &partd.Error{Op: op, Key: key, HasKey: true, Err: fmt.Errorf("encode %T: %w", v, err)}
	}
	b.bytes = frame.End(bytes, start)
	b.add(key)
	return nil
}

// buffer holds the encoded values of a batch, one behind the other.
type buffer struct {
	bytes   []byte
	ends    []int // of each entry's value in bytes
	entries []partd.Entry
}

// maxPooled is the size of the largest buffer that is kept for the next batch.
const maxPooled = 4 << 20

func (s *Store[T]) buffer() *buffer {
	if b, ok := s.buffers.Get().(*buffer); ok {
		return b
	}
	return &buffer{}
}

// release keeps a buffer for the next batch. The store beneath has copied what
// it was given.
func (s *Store[T]) release(b *buffer) {
	if cap(b.bytes) > maxPooled || cap(b.entries) > maxPooled/64 {
		return
	}
	clear(b.entries)
	b.bytes, b.ends, b.entries = b.bytes[:0], b.ends[:0], b.entries[:0]
	s.buffers.Put(b)
}

func (b *buffer) add(key string) {
	b.ends = append(b.ends, len(b.bytes))
	b.entries = append(b.entries, partd.Entry{Key: key})
}

// batch returns the entries. Only now do the bytes stay where they are.
func (b *buffer) batch() []partd.Entry {
	start := 0
	for i, end := range b.ends {
		b.entries[i].Value = b.bytes[start:end:end]
		start = end
	}
	return b.entries
}
