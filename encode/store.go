package encode

import (
	"context"
	"errors"
	"iter"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
)

// Get returns the joined value of each key, in the order requested. A key that
// was never appended to has the codec's empty value. The values belong to the
// caller.
func (s *Store[T]) Get(ctx context.Context, keys ...string) ([]T, error) {
	raw, err := s.beneath().Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	return s.decodeAll("get", keys, raw)
}

func (s *Store[T]) decodeAll(op string, keys []string, raw [][]byte) ([]T, error) {
	values := make([]T, len(raw))
	for i, chunk := range raw {
		pieces, err := s.split(chunk)
		if err == nil {
			values[i], err = s.codec.Join(pieces) // which may keep them
		}
		if err != nil {
			return nil, keyError(op, keys[i], err)
		}
	}
	return values, nil
}

// split returns the pieces of a key's value.
func (s *Store[T]) split(chunk []byte) (pieces []T, err error) {
	err = eachPiece(frame.Split(chunk), s.codec.Decode, func(v T) bool {
		pieces = append(pieces, v)
		return true
	})
	return pieces, err
}

// eachPiece passes to emit what the content of each frame stands for, until emit
// returns false.
func eachPiece[T any](frames iter.Seq2[[]byte, error], decode func([]byte) (T, error), emit func(T) bool) error {
	offset := int64(0)
	for content, err := range frames {
		if err != nil {
			return frameError(err)
		}
		v, err := decode(content)
		if err != nil {
			return &DecodeError{offset, err}
		}
		if !emit(v) {
			return nil
		}
		offset += frame.HeaderLen + int64(len(content))
	}
	return nil
}

// frameError returns what is wrong with a frame as a DecodeError, as far as it
// is the data and not the reading.
func frameError(err error) error {
	if e, ok := errors.AsType[*frame.Error](err); ok && (errors.Is(err, frame.ErrTruncated) || errors.Is(err, frame.ErrTooLong)) {
		return &DecodeError{e.Offset, e.Err}
	}
	return err
}

// All yields the values that were appended to a key, one by one, without joining
// them. It holds one value at a time, so a key may be larger than memory. It
// stops after the first error.
func (s *Store[T]) All(ctx context.Context, key string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		r, err := partd.Open(ctx, s.beneath(), key)
		if err != nil {
			yield(*new(T), err)
			return
		}
		more := true
		err = eachPiece(frame.Read(r, partd.MaxValueLen), s.codec.Decode, func(v T) bool {
			more = yield(v, nil)
			return more
		})
		if err = errors.Join(err, r.Close()); err != nil && more {
			yield(*new(T), keyError("all", key, err))
		}
	}
}

// Set replaces all values of a key with one.
func (s *Store[T]) Set(ctx context.Context, key string, v T) error {
	return s.set(ctx, "set", key, v, partd.Set)
}

// SetOnce sets a key if it does not exist yet, as one atomic step. It leaves an
// existing key unchanged.
func (s *Store[T]) SetOnce(ctx context.Context, key string, v T) error {
	return s.set(ctx, "set once", key, v, partd.SetOnce)
}

func (s *Store[T]) set(ctx context.Context, op, key string, v T, do func(context.Context, partd.Partd, string, []byte) error) error {
	b := s.buffer()
	defer s.release(b)
	if err := s.encode(b, op, key, v); err != nil {
		return err
	}
	return do(ctx, s.beneath(), key, b.bytes)
}

// Pop returns the values of keys as Get does, and removes the keys, as one atomic
// step. If they were removed but do not decode, the error is a *PopError, which
// holds the values.
func (s *Store[T]) Pop(ctx context.Context, keys ...string) ([]T, error) {
	raw, err := partd.Pop(ctx, s.beneath(), keys...)
	if err != nil {
		return nil, err
	}
	values, err := s.decodeAll("pop", keys, raw)
	if err != nil {
		return nil, &PopError{keys, raw, err}
	}
	return values, nil
}

// Delete removes keys; one that does not exist is no error.
func (s *Store[T]) Delete(ctx context.Context, keys ...string) error {
	return partd.Delete(ctx, s.beneath(), keys...)
}

// Drop removes every key of the store beneath.
func (s *Store[T]) Drop(ctx context.Context) error { return s.beneath().Drop(ctx) }

// Keys yields each key once, with the size of its encoded values in bytes.
func (s *Store[T]) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return partd.Keys(ctx, s.beneath())
}
