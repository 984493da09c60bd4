package partd

import (
	"context"
	"io"
	"iter"
)

// Setter is a store that can replace values.
type Setter interface {
	// Set replaces the value of a key. Readers see the old value or the new one.
	Set(ctx context.Context, key string, value []byte) error
	// SetOnce sets the key if it does not exist, and does nothing if it does, in
	// one atomic step. (Python's iset.)
	SetOnce(ctx context.Context, key string, value []byte) error
}

// Set replaces the value of a key; see [Setter].
func Set(ctx context.Context, store Partd, key string, value []byte) error {
	if s, ok := store.(Setter); ok {
		return s.Set(ctx, key, value)
	}
	return unsupportedError("set", store)
}

// SetOnce sets a key that does not exist; see [Setter].
func SetOnce(ctx context.Context, store Partd, key string, value []byte) error {
	if s, ok := store.(Setter); ok {
		return s.SetOnce(ctx, key, value)
	}
	return unsupportedError("set once", store)
}

// Deleter is a store that can remove keys.
type Deleter interface {
	// Delete removes keys: all of them or none. Keys that do not exist are ignored.
	Delete(ctx context.Context, keys ...string) error
}

// Delete removes keys; see [Deleter].
func Delete(ctx context.Context, store Partd, keys ...string) error {
	if s, ok := store.(Deleter); ok {
		return s.Delete(ctx, keys...)
	}
	return unsupportedError("delete", store)
}

// Popper is a store that can get and delete in one step.
type Popper interface {
	// Pop returns the values of keys as Get does, and removes the keys, in one
	// atomic step: of two concurrent Pops only one gets each appended piece.
	Pop(ctx context.Context, keys ...string) ([][]byte, error)
}

// Pop returns the values of keys and removes them; see [Popper].
func Pop(ctx context.Context, store Partd, keys ...string) ([][]byte, error) {
	if s, ok := store.(Popper); ok {
		return s.Pop(ctx, keys...)
	}
	return nil, unsupportedError("pop", store)
}

// Flusher is a store that buffers data for a store beneath it.
type Flusher interface {
	// Flush moves everything acknowledged before the call to the store beneath.
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
	// Sync returns once everything acknowledged before the call would survive a
	// loss of power.
	Sync(ctx context.Context) error
}

// Sync forces data to stable storage; see [Syncer].
func Sync(ctx context.Context, store Partd) error {
	if s, ok := store.(Syncer); ok {
		return s.Sync(ctx)
	}
	return unsupportedError("sync", store)
}

// Close closes a store with its method Close, which has no context. If the store is a
// [Flusher], Close flushes it first, until ctx ends; it always closes the store, and ctx
// does not interrupt that. A store that would lose data by closing, such as a [Buffer]
// whose slow store fails, returns an error and stays open.
func Close(ctx context.Context, store Partd) error {
	c, ok := store.(io.Closer)
	if !ok {
		return unsupportedError("close", store)
	}
	if f, ok := store.(Flusher); ok {
		// Close retries a failed flush and returns its error.
		_ = f.Flush(ctx)
	}
	return c.Close()
}

// Batcher is a store that prefers appends of a certain size.
type Batcher interface {
	// BatchBytes returns the recommended maximum size of one Append, in bytes.
	BatchBytes() int
}

// Limits of one append: in bytes, for a store that is no Batcher, and in entries, for any
// store.
const (
	defaultBatch    = 4 << 20
	maxBatchEntries = 32 << 10
	entryCost       = 24 // bytes that a store adds to an entry's key and value
)

// BatchBytes returns the recommended maximum size of one Append to a store, in bytes: the
// size that its [Batcher], or that of a store beneath it, returns.
func BatchBytes(store Partd) int {
	for s := range Layers(store) {
		if b, ok := s.(Batcher); ok {
			return b.BatchBytes()
		}
	}
	return defaultBatch
}

// Batches divides entries into batches of at most maxBytes, including the overhead of each
// entry in a store. An entry that is larger gets its own batch.
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
