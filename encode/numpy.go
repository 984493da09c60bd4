package encode

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/npy"
)

// NumPy stores one-dimensional arrays as partd.Numpy does: key K holds the bytes
// of the elements, append after append and without frames, and key K.dtype holds
// their type. Arrays of text are arrays of objects, stored as frames of
// MessagePack lists.
//
// Keys that end in .dtype are refused, because they describe other keys. The error for
// an array whose type is not T wraps [ErrDtype]. NumPy reads both byte
// orders, and a big-endian key stays big-endian when Go appends to it. It reads
// times and durations in any unit from ns to W, but appends them only in ns.
//
// Unlike in Python, Delete removes both keys, Append refuses arrays of
// another dtype, and an append without elements creates no key.
// A NumPy is safe for concurrent use. It caches the dtypes of the keys that it has
// appended to. Do not delete such a key through another NumPy or
// another process; Python has the same restriction.
type NumPy[T Element] struct {
	layer
	dtype npy.DType

	// mu is held for reading by appends and reads, and for writing by removals: an
	// append during a removal could leave data without a dtype.
	mu sync.RWMutex

	cacheMu      sync.Mutex // locked after mu
	cachedDtypes map[string]npy.DType
}

// maxCachedDtypes is the maximum length of NumPy.cachedDtypes.
const maxCachedDtypes = 1 << 16

// dtypeSuffix is appended to a key to form the key of its dtype.
const dtypeSuffix = ".dtype"

// NewNumPy returns a store of arrays over a store of bytes, which must support
// Set. Stores of different element types may share one as long as each key has
// one type.
func NewNumPy[T Element](p partd.Partd) *NumPy[T] {
	return &NumPy[T]{layer: layer{p}, dtype: dtypeOf[T](), cachedDtypes: make(map[string]npy.DType)}
}

// Append adds each entry's elements to the array of its key, in slice order. A key may
// occur more than once. Append is all or nothing, except that it first sets the dtype of
// a new key, so that elements always have one. It copies the elements.
func (n *NumPy[T]) Append(ctx context.Context, entries ...Entry[[]T]) error {
	n.mu.RLock()
	defer n.mu.RUnlock()
	batch, err := n.encode("append", entries)
	if err != nil {
		return err
	}
	if err := n.ensureDtypes(ctx, "append", batch); err != nil {
		return err
	}
	return n.innerStore().Append(ctx, batch...)
}

// Set replaces the array of a key. An array of another dtype must be deleted first.
func (n *NumPy[T]) Set(ctx context.Context, key string, elements []T) error {
	n.mu.RLock()
	defer n.mu.RUnlock()
	batch, err := n.encode("set", []Entry[[]T]{{key, elements}})
	if err != nil {
		return err
	}
	if len(batch) == 0 {
		return partd.Set(ctx, n.innerStore(), key, nil)
	}
	if err := n.ensureDtypes(ctx, "set", batch); err != nil {
		return err
	}
	return partd.Set(ctx, n.innerStore(), key, batch[0].Value)
}

// encode returns the encoded entries, except those without elements.
func (n *NumPy[T]) encode(op string, entries []Entry[[]T]) ([]partd.Entry, error) {
	size := 0
	for i := range entries {
		size += len(entries[i].Value) * n.dtype.Size
	}
	bytes := make([]byte, 0, size)
	batch := make([]partd.Entry, 0, len(entries))
	for _, e := range entries {
		if err := checkKey(op, e.Key); err != nil {
			return nil, err
		}
		if len(e.Value) == 0 {
			continue
		}
		start := len(bytes)
		var err error
		if bytes, err = appendArray(bytes, n.dtype, e.Value); err != nil {
			return nil, keyError(op, e.Key, err)
		}
		batch = append(batch, partd.Entry{Key: e.Key, Value: bytes[start:len(bytes):len(bytes)]})
	}
	return batch, nil
}

// Delete removes keys with their dtypes. A key that does not exist is not an error.
func (n *NumPy[T]) Delete(ctx context.Context, keys ...string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	allKeys, err := withDtypes("delete", keys)
	if err != nil {
		return err
	}
	n.uncacheDtypes(keys)
	return partd.Delete(ctx, n.innerStore(), allKeys...)
}

// Pop returns the arrays of keys as Get does, and removes the keys with their
// dtypes, as one atomic step. If removed arrays do not decode, the error is a
// *PopError, which holds the arrays' bytes, followed by the dtypes.
func (n *NumPy[T]) Pop(ctx context.Context, keys ...string) ([][]T, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	allKeys, err := withDtypes("pop", keys)
	if err != nil {
		return nil, err
	}
	n.uncacheDtypes(keys)
	stored, err := partd.Pop(ctx, n.innerStore(), allKeys...)
	if err != nil {
		return nil, err
	}
	arrays, err := n.decodeAll("pop", keys, stored[:len(keys)], stored[len(keys):])
	if err != nil {
		return nil, &PopError{allKeys, stored, err}
	}
	return arrays, nil
}

// Drop removes every key of the underlying store.
func (n *NumPy[T]) Drop(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cacheMu.Lock()
	clear(n.cachedDtypes)
	n.cacheMu.Unlock()
	return n.innerStore().Drop(ctx)
}

// Keys yields each array's key once, with its size in bytes.
func (n *NumPy[T]) Keys(ctx context.Context) iter.Seq2[partd.KeyInfo, error] {
	return func(yield func(partd.KeyInfo, error) bool) {
		for info, err := range partd.Keys(ctx, n.innerStore()) {
			if strings.HasSuffix(info.Key, dtypeSuffix) {
				continue
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// checkKey refuses a key that ends in dtypeSuffix.
func checkKey(op, key string) error {
	if strings.HasSuffix(key, dtypeSuffix) {
		return keyError(op, key, fmt.Errorf("keys that end in %s are reserved for dtypes", dtypeSuffix))
	}
	return nil
}

// withDtypes returns keys, followed by the keys of their dtypes.
func withDtypes(op string, keys []string) ([]string, error) {
	allKeys := make([]string, 2*len(keys))
	for i, key := range keys {
		if err := checkKey(op, key); err != nil {
			return nil, err
		}
		allKeys[i], allKeys[len(keys)+i] = key, key+dtypeSuffix
	}
	return allKeys, nil
}
