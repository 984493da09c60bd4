package partd

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/go-partd/partd/internal/base/storeerror"
)

// Setter is a store that can replace values.
type Setter interface {
	// Set replaces the value of a key. A reader sees either the old or the new value. The caller may reuse value
	// afterwards.
	Set(ctx context.Context, key string, value []byte) error
	// SetOnce atomically sets the key unless it exists. It is like Python's iset.
	SetOnce(ctx context.Context, key string, value []byte) error
}

// Set replaces the value of a key; see [Setter].
func Set(ctx context.Context, store Partd, key string, value []byte) error {
	if s, ok := store.(Setter); ok {
		return s.Set(ctx, key, value)
	}
	return unsupportedError("set", store)
}

// SetOnce sets a key unless it exists; see [Setter].
func SetOnce(ctx context.Context, store Partd, key string, value []byte) error {
	if s, ok := store.(Setter); ok {
		return s.SetOnce(ctx, key, value)
	}
	return unsupportedError("set once", store)
}

// Deleter is a store that can remove keys.
type Deleter interface {
	// Delete removes keys. If it fails, it removes none. It ignores keys that do not exist.
	Delete(ctx context.Context, keys ...string) error
}

// Delete removes keys; see [Deleter].
func Delete(ctx context.Context, store Partd, keys ...string) error {
	if s, ok := store.(Deleter); ok {
		return s.Delete(ctx, keys...)
	}
	return unsupportedError("delete", store)
}

// Popper is a store that can atomically return and remove values.
type Popper interface {
	// Pop returns the values of keys as Get does and atomically removes the keys:
	// if several Pops run concurrently, only one returns each appended piece.
	Pop(ctx context.Context, keys ...string) ([][]byte, error)
}

// Pop returns the values of keys and removes the keys; see [Popper].
func Pop(ctx context.Context, store Partd, keys ...string) ([][]byte, error) {
	if s, ok := store.(Popper); ok {
		return s.Pop(ctx, keys...)
	}
	return nil, unsupportedError("pop", store)
}

// Flusher is a store that buffers data for a store beneath it.
type Flusher interface {
	// Flush moves buffered data to the store beneath: the data of all writes that returned before
	// the call.
	Flush(ctx context.Context) error
}

// Flush moves a layer's buffered data to the store beneath it; see [Flusher].
func Flush(ctx context.Context, store Partd) error {
	if s, ok := store.(Flusher); ok {
		return s.Flush(ctx)
	}
	return unsupportedError("flush", store)
}

// Syncer is a store that can force its data to stable storage.
type Syncer interface {
	// Sync waits until all writes that returned before the call are durable, so that
	// they survive a power loss.
	Sync(ctx context.Context) error
}

// Sync makes all completed writes durable; see [Syncer].
func Sync(ctx context.Context, store Partd) error {
	if s, ok := store.(Syncer); ok {
		return s.Sync(ctx)
	}
	return unsupportedError("sync", store)
}

// Close flushes a store if it is a [Flusher]. Then it calls the store's method Close, even if the
// flush failed or ctx ended it. Close returns both errors. The method Close of some stores, such as
// a [Buffer], flushes again, if necessary. For them, only that method's error counts, and ctx does not
// limit the second flush. A Buffer whose slow store fails returns an error and stays open.
//
// Close ignores a flush error that wraps errors.ErrUnsupported, or [io/fs.ErrPermission] from a
// server: a client that may not flush has changed nothing.
func Close(ctx context.Context, store Partd) error {
	flushErr := Flush(ctx, store)
	closeErr := unsupportedError("close", store)
	if c, ok := store.(io.Closer); ok {
		closeErr = c.Close()
	}
	switch {
	case flushErr == nil || storeerror.LosesNothing(flushErr):
		return closeErr
	case errors.Is(closeErr, errors.ErrUnsupported): // callers that ignore ErrUnsupported must still see flushErr
		return flushErr
	}
	return errors.Join(flushErr, closeErr)
}

// Batcher is a store that prefers appends of a certain size.
type Batcher interface {
	// BatchBytes returns the recommended maximum size of one Append, in bytes.
	BatchBytes() int
}

const (
	defaultBatch    = 4 << 20  // maximum size for a store that is not a Batcher, in bytes
	maxBatchEntries = 32 << 10 // maximum number of entries in a batch
	entryCost       = 24       // estimated overhead of an entry besides its key and value, in bytes
)

// BatchBytes returns the recommended maximum size of one Append to a store, in bytes. The
// store or a store beneath it chooses the size; see [Batcher]. A Batcher that recommends 0 or less
// has no preference.
func BatchBytes(store Partd) int {
	if b, ok := As[Batcher](store); ok {
		if size := b.BatchBytes(); size > 0 {
			return size
		}
	}
	return defaultBatch
}

// Batches divides entries into batches of at most maxBytes, counting the overhead of each
// entry. An entry that is larger than maxBytes becomes its own batch.
func Batches(entries []Entry, maxBytes int) iter.Seq[[]Entry] {
	return func(yield func([]Entry) bool) {
		first, size := 0, 0
		for i := range entries {
			cost := len(entries[i].Key) + len(entries[i].Value) + entryCost
			if i > first && (size+cost > maxBytes || i-first == maxBatchEntries) {
				if !yield(entries[first:i]) {
					return
				}
				first, size = i, 0
			}
			size += cost
		}
		if first < len(entries) {
			yield(entries[first:])
		}
	}
}
