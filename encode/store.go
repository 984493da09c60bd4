package encode

import (
	"context"
	"errors"
	"iter"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
)

// Get returns the joined value of each key, in the order requested. For a key that does
// not exist, it returns the codec's empty value. The values belong to the caller.
func (s *Store[T]) Get(ctx context.Context, keys ...string) ([]T, error) {
	stored, err := s.innerStore().Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	return s.decodeAll("get", keys, stored)
}

func (s *Store[T]) decodeAll(op string, keys []string, stored [][]byte) ([]T, error) {
	values := make([]T, len(stored))
	for i, chunk := range stored {
		var pieces []T
		err := eachPiece(frame.Split(chunk), s.codec.Decode, func(v T) bool {
			pieces = append(pieces, v)
			return true
		})
		if err == nil {
			values[i], err = s.codec.Join(pieces) // Join may retain pieces
		}
		if err != nil {
			return nil, keyError(op, keys[i], err)
		}
	}
	return values, nil
}

var errStopped = errors.New("the caller stopped the iteration")

// eachPiece decodes each frame and passes the value to emit. It returns errStopped if emit returns
// false.
func eachPiece[T any](frames iter.Seq2[[]byte, error], decode func([]byte) (T, error), emit func(T) bool) error {
	offset := int64(0)
	for content, err := range frames {
		e, ok := errors.AsType[*frame.Error](err)
		if ok && (errors.Is(err, frame.ErrTruncated) || errors.Is(err, frame.ErrTooLong)) {
			return &DecodeError{e.Offset, e.Err} // damaged data, not a failed read
		}
		if err != nil {
			return err
		}
		v, err := decode(content)
		if err != nil {
			return &DecodeError{offset, err}
		}
		if !emit(v) {
			return errStopped
		}
		offset += frame.HeaderLen + int64(len(content))
	}
	return nil
}

// All yields the values that were appended to a key, one by one, without joining them. It
// holds one value at a time, so a key may be larger than memory. All stops after the
// first error.
func (s *Store[T]) All(ctx context.Context, key string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		r, err := partd.Open(ctx, s.innerStore(), key)
		if err != nil {
			yield(*new(T), err)
			return
		}
		err = eachPiece(frame.Read(r, partd.MaxValueLen), s.codec.Decode, func(v T) bool { return yield(v, nil) })
		err = errors.Join(err, r.Close())
		if err != nil && !errors.Is(err, errStopped) {
			yield(*new(T), keyError("all", key, err))
		}
	}
}

// Set replaces all values of a key with one value.
func (s *Store[T]) Set(ctx context.Context, key string, v T) error {
	return s.set(ctx, "set", key, v, partd.Set)
}

// SetOnce sets a key unless it exists, as one atomic step.
func (s *Store[T]) SetOnce(ctx context.Context, key string, v T) error {
	return s.set(ctx, "set once", key, v, partd.SetOnce)
}

func (s *Store[T]) set(ctx context.Context, op, key string, v T, setStored func(context.Context, partd.Partd, string, []byte) error) error {
	b := s.buffer()
	defer s.release(b)
	if err := s.encode(b, op, key, v); err != nil {
		return err
	}
	return setStored(ctx, s.innerStore(), key, b.bytes)
}

// Pop returns the values of keys as Get does and removes the keys, as one atomic
// step. If removed values do not decode, the error is a *PopError, which holds them.
func (s *Store[T]) Pop(ctx context.Context, keys ...string) ([]T, error) {
	stored, err := partd.Pop(ctx, s.innerStore(), keys...)
	if err != nil {
		return nil, err
	}
	values, err := s.decodeAll("pop", keys, stored)
	if err != nil {
		return nil, &PopError{Keys: keys, Values: stored, Err: err}
	}
	return values, nil
}

// Delete removes keys. A key that does not exist is not an error.
func (s *Store[T]) Delete(ctx context.Context, keys ...string) error {
	return partd.Delete(ctx, s.innerStore(), keys...)
}

// Drop removes every key from the underlying store.
func (s *Store[T]) Drop(ctx context.Context) error { return s.innerStore().Drop(ctx) }

// Keys yields each key once, with the size of its encoded values in bytes.
func (s *Store[T]) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return partd.Keys(ctx, s.innerStore())
}

// Group is a key with the values that were appended to it.
type Group[T any] struct {
	Key string
	// Values yields the values one by one, in order and without joining them. Range over
	// it at most once, before the scan yields the next group; you may stop early.
	Values iter.Seq2[T, error]
}

// Scan yields each key once with its values, in the underlying store's order. Values are
// read and decoded one at a time, so a key may be larger than memory. Data that does not
// decode is an error of Values, and Scan can continue with the next key. If reading the
// store fails, Scan yields the error and stops.
func (s *Store[T]) Scan(ctx context.Context) iter.Seq2[Group[T], error] {
	return s.groups(partd.Scan(ctx, s.innerStore()))
}

// ScanPart is like Scan, but yields only the keys in one of several parts, which several readers
// can scan at the same time; see [partd.ScanPart].
func (s *Store[T]) ScanPart(ctx context.Context, part, parts int) iter.Seq2[Group[T], error] {
	return s.groups(partd.ScanPart(ctx, s.innerStore(), part, parts))
}

func (s *Store[T]) groups(chunks iter.Seq2[partd.Chunk, error]) iter.Seq2[Group[T], error] {
	return func(yield func(Group[T], error) bool) {
		for v, err := range partd.Values(chunks) {
			g := Group[T]{Key: v.Key}
			if err == nil {
				g.Values = s.values(v)
			}
			if !yield(g, err) {
				return
			}
		}
	}
}

func (s *Store[T]) values(stored partd.Value) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		err := eachPiece(frame.Read(stored, partd.MaxValueLen), s.codec.Decode, func(v T) bool { return yield(v, nil) })
		if err != nil && !errors.Is(err, errStopped) {
			yield(*new(T), keyError("scan", stored.Key, err))
		}
	}
}
