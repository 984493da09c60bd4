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
	// SetOnce sets a key that does not exist, and leaves one that does as it
	// is, as one atomic step. (Python's iset.)
	SetOnce(ctx context.Context, key string, value []byte) error
}

// Set replaces the value of a key; see [Setter].
func Set(ctx context.Context, store Partd, key string, value []byte) error {
	if s, ok := store.(Setter); ok {
		return s.Set(ctx, key, value)
	}
	return unsupported("set", store)
}

// SetOnce sets a key that does not exist; see [Setter].
func SetOnce(ctx context.Context, store Partd, key string, value []byte) error {
	if s, ok := store.(Setter); ok {
		return s.SetOnce(ctx, key, value)
	}
	return unsupported("set once", store)
}

// Deleter is a store that can remove keys.
type Deleter interface {
	// Delete removes keys, all or none; one that does not exist is no error.
	Delete(ctx context.Context, keys ...string) error
}

// Delete removes keys; see [Deleter].
func Delete(ctx context.Context, store Partd, keys ...string) error {
	if s, ok := store.(Deleter); ok {
		return s.Delete(ctx, keys...)
	}
	return unsupported("delete", store)
}

// Popper is a store that can get and delete as one step.
type Popper interface {
	// Pop returns the values of keys as Get does, and removes the keys, as one
	// atomic step: of two concurrent Pops one gets a piece, the other does not.
	Pop(ctx context.Context, keys ...string) ([][]byte, error)
}

// Pop returns the values of keys and removes them; see [Popper].
func Pop(ctx context.Context, store Partd, keys ...string) ([][]byte, error) {
	if s, ok := store.(Popper); ok {
		return s.Pop(ctx, keys...)
	}
	return nil, unsupported("pop", store)
}

// Flusher is a store that holds data back for a store beneath.
type Flusher interface {
	// Flush moves all that was acknowledged before the call to the store beneath.
	Flush(ctx context.Context) error
}

// Flush moves what a layer holds back to the store beneath; see [Flusher].
func Flush(ctx context.Context, store Partd) error {
	if s, ok := store.(Flusher); ok {
		return s.Flush(ctx)
	}
	return unsupported("flush", store)
}

// Syncer is a store that can force its data to stable storage.
type Syncer interface {
	// Sync returns once all that was acknowledged before the call survives a
	// loss of power.
	Sync(ctx context.Context) error
}

// Sync forces data to stable storage; see [Syncer].
func Sync(ctx context.Context, store Partd) error {
	if s, ok := store.(Syncer); ok {
		return s.Sync(ctx)
	}
	return unsupported("sync", store)
}

// Close closes a store, by its method Close without a context. Where the store
// is a [Flusher], it is flushed first, and ctx bounds that. Closing itself is
// never left out and never cut short. A store that cannot close without losing
// data, such as a [Buffer] whose slow store fails, says so and stays open.
func Close(ctx context.Context, store Partd) error {
	c, ok := store.(io.Closer)
	if !ok {
		return unsupported("close", store)
	}
	if f, ok := store.(Flusher); ok {
		// A flush that fails is tried once more by Close, whose error says how
		// that ended.
		_ = f.Flush(ctx)
	}
	return c.Close()
}

// Batcher is a store for which very small and very large appends cost more than those in
// between.
type Batcher interface {
	// BatchBytes returns how much one Append should have at most.
	BatchBytes() int
}

// What one append has at most to a store that is no Batcher, in bytes, and to any store,
// in entries.
const (
	defaultBatch    = 4 << 20
	maxBatchEntries = 32 << 10
	entryCost       = 24 // bytes that a store notes of an entry, beside its key and value
)

// BatchBytes returns how much one Append to a store should have at most, as its
// [Batcher] says, or that of a store beneath.
func BatchBytes(store Partd) int {
	for s := range Layers(store) {
		if b, ok := s.(Batcher); ok {
			return b.BatchBytes()
		}
	}
	return defaultBatch
}

// Batches divides entries into batches of at most so many bytes, counting what a store
// adds to each entry. A larger entry is a batch of its own.
func Batches(entries []Entry, bytes int) iter.Seq[[]Entry] {
	return func(yield func([]Entry) bool) {
		first, size := 0, 0
		for i := range entries {
			cost := len(entries[i].Key) + len(entries[i].Value) + entryCost
			if i > first && (size+cost > bytes || i-first == maxBatchEntries) {
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
