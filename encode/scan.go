package encode

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
)

// Group is a key with the values that were appended to it.
type Group[T any] struct {
	Key string
	// Values yields the values one by one, in order and without joining them, as
	// [Store.All] does. Range over it once, and before asking for the next group;
	// you may stop early.
	Values iter.Seq2[T, error]
}

// Scan yields each key once with its values, in the store's own order. Values are read
// and decoded one at a time as you range over them, so a key may be larger than
// memory; the codec's Join combines them. Data that does not decode is an error of
// Values, and the scan can go on with the next key. Scan itself stops after its first
// error.
func (s *Store[T]) Scan(ctx context.Context) iter.Seq2[Group[T], error] {
	return s.groups(partd.Scan(ctx, s.beneath()))
}

// ScanPart is Scan for the keys of one part, so that several readers can divide the
// keys among themselves; see [partd.ScanPart].
func (s *Store[T]) ScanPart(ctx context.Context, part, parts int) iter.Seq2[Group[T], error] {
	return s.groups(partd.ScanPart(ctx, s.beneath(), part, parts))
}

func (s *Store[T]) groups(chunks iter.Seq2[partd.Chunk, error]) iter.Seq2[Group[T], error] {
	return func(yield func(Group[T], error) bool) {
		next, stop := iter.Pull2(chunks)
		defer stop()
		r := &scanReader{next: next, chunk: partd.Chunk{Last: true}}
		defer func() { r.keys++ }() // the last one's values, too, are over
		for r.nextKey() {
			if !yield(Group[T]{r.chunk.Key, s.values(r)}, nil) {
				return
			}
		}
		if !errors.Is(r.err, io.EOF) {
			yield(Group[T]{}, r.err)
		}
	}
}

var errPassed = errors.New("the values of a key can be read only until the next key is")

// values yields the values of the key that is being read.
func (s *Store[T]) values(r *scanReader) iter.Seq2[T, error] {
	key, keys := r.chunk.Key, r.keys
	return func(yield func(T, error) bool) {
		more := true
		decode := func(data []byte) (v T, err error) {
			if keys != r.keys { // since the value before
				return v, errPassed
			}
			return s.codec.Decode(data)
		}
		err := errPassed
		if keys == r.keys {
			err = eachPiece(frame.Read(r, partd.MaxValueLen), decode, func(v T) bool {
				more = yield(v, nil)
				return more
			})
		}
		if err != nil && more {
			yield(*new(T), keyError("scan", key, err))
		}
	}
}

// scanReader reads the value of one key of a scan after the other.
type scanReader struct {
	next  func() (partd.Chunk, error, bool)
	chunk partd.Chunk // its Data is what was not read yet
	keys  int         // how many were begun
	err   error       // of the scan, io.EOF at its end
}

// step goes on to the next chunk.
func (r *scanReader) step() bool {
	if r.err != nil {
		return false
	}
	within, ok := !r.chunk.Last, false
	if r.chunk, r.err, ok = r.next(); !ok {
		r.err = io.EOF
		if within {
			r.err = &partd.Error{Op: "scan", Err: errors.New("the store beneath ended its scan within a key")}
		}
	}
	return r.err == nil
}

// nextKey goes on to the first chunk of the next key.
func (r *scanReader) nextKey() bool {
	for !r.chunk.Last {
		if !r.step() {
			return false
		}
	}
	r.keys++
	return r.step()
}

// Read reads what is left of the key's value.
func (r *scanReader) Read(p []byte) (int, error) {
	for len(r.chunk.Data) == 0 {
		if r.chunk.Last {
			return 0, io.EOF
		}
		if !r.step() {
			return 0, r.err
		}
	}
	n := copy(p, r.chunk.Data)
	r.chunk.Data = r.chunk.Data[n:]
	return n, nil
}
