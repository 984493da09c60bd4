package encode

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/pyvalue/npy"
)

// NumPy stores one-dimensional arrays as Python's partd.Numpy does: key K holds the bytes
// of all appended elements, without frames, and key K.dtype holds their dtype. Strings are
// stored as arrays of objects: frames of MessagePack lists.
//
// Keys must not end in .dtype. The error for an array whose type is not T wraps
// [ErrDtype]. NumPy reads both byte orders. When it appends to a big-endian key, the key
// stays big-endian. It reads times and durations in any unit from ns to W, but appends
// them only in ns.
//
// Unlike in Python, Delete removes both K and K.dtype, Append rejects arrays of another
// dtype, and an append without elements creates no key.
//
// A NumPy is safe for concurrent use. It caches the dtypes of the keys that it has
// appended to, so such a key must not be deleted through another NumPy or by another
// process; Python has the same restriction.
type NumPy[T Element] struct {
	wrapper
	dtype npy.DType

	// mu is held for reading during appends and reads, and for writing during removals:
	// an append during a removal could leave data without a dtype.
	mu sync.RWMutex

	cacheMu      sync.Mutex // locked after mu
	cachedDtypes map[string]npy.DType
}

// maxCachedDtypes is the maximum number of dtypes that a NumPy caches.
const maxCachedDtypes = 1 << 16

const dtypeSuffix = ".dtype" // key K.dtype holds the dtype of key K

// NewNumPy returns a store of arrays over p, which must support Set. NumPys of different
// element types may share p as long as each key has one type.
func NewNumPy[T Element](p partd.Partd) *NumPy[T] {
	return &NumPy[T]{wrapper: wrapper{p}, dtype: dtypeOf[T](), cachedDtypes: make(map[string]npy.DType)}
}

// Append adds each entry's elements to the array of its key, in slice order. A key may
// occur more than once. Append is all or nothing, except that a failed Append may leave
// the dtypes of new keys. It does not retain the elements.
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

// Set replaces the array of a key. To replace an array of another dtype, delete it first.
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
		bytes, err = appendArray(bytes, n.dtype, e.Value)
		if err != nil {
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

// Pop returns the arrays of keys as Get does and removes the keys with their dtypes, as
// one atomic step. If a removed array does not decode, the error is a *PopError with the
// bytes of all arrays, followed by their dtypes.
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
		return nil, &PopError{Keys: allKeys, Values: stored, Err: err}
	}
	return arrays, nil
}

// Drop removes every key from the underlying store.
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

func checkKey(op, key string) error {
	if strings.HasSuffix(key, dtypeSuffix) {
		return keyError(op, key, fmt.Errorf("keys that end in %s are reserved for dtypes", dtypeSuffix))
	}
	return nil
}

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
