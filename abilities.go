package partd

import (
	"bytes"
	"context"
	"io"
	"iter"
)

// KeyInfo describes a key.
type KeyInfo struct {
	Key  string
	Size int64 // length of the key's value in bytes
}

// Chunk is a piece of a key's value, as yielded by Scan.
type Chunk struct {
	Key    string
	Offset int64  // where in the value Data begins, in bytes
	Data   []byte // valid until the next step of the iteration, not to be changed
	Last   bool   // no more of this key follows
}

// Stats describes a store as a whole.
type Stats struct {
	Keys   int64 // number of keys
	Bytes  int64 // sum of the lengths of their values, as the caller of this layer sees them
	Memory int64 // bytes of memory that the store holds for its data, 0 if it does not count them
	Disk   int64 // bytes of its files, 0 if it has none
}

// Setter is a store that can replace values.
type Setter interface {
	// Set replaces the value of a key. Readers see the old value or the new one.
	Set(ctx context.Context, key string, value []byte) error
	// SetOnce sets a key that does not exist, and leaves one that does as it
	// is, as one atomic step. (Python's iset.)
	SetOnce(ctx context.Context, key string, value []byte) error
}

// Deleter is a store that can remove keys.
type Deleter interface {
	// Delete removes keys, all or none; one that does not exist is no error.
	Delete(ctx context.Context, keys ...string) error
}

// Lister is a store that can list its keys.
type Lister interface {
	// Keys yields each key once, in the store's own order. After an error it
	// yields nothing more.
	Keys(ctx context.Context) iter.Seq2[KeyInfo, error]
}

// Opener is a store that can stream a value.
type Opener interface {
	// Open returns a reader of the value that the key has now. The caller
	// closes it.
	Open(ctx context.Context, key string) (io.ReadCloser, error)
}

// Rewinder is a reader that can begin anew. What [Opener] returns may be one: it
// then reads the same value again, whatever was changed since.
type Rewinder interface {
	Rewind() error
}

// Scanner is a store that can stream everything that it holds.
type Scanner interface {
	// Scan yields every key with its whole value as chunks, a key's chunks
	// together and in order, keys in the store's own order, in bounded memory,
	// from a snapshot taken at the start where the store can. A key with an
	// empty value yields one empty chunk. After an error it yields nothing more.
	Scan(ctx context.Context) iter.Seq2[Chunk, error]
}

// Popper is a store that can get and delete as one step.
type Popper interface {
	// Pop returns the values of keys as Get does, and removes the keys, as one
	// atomic step: of two concurrent Pops one gets a piece, the other does not.
	Pop(ctx context.Context, keys ...string) ([][]byte, error)
}

// Flusher is a store that holds data back for a store beneath.
type Flusher interface {
	// Flush moves all that was acknowledged before the call to the store beneath.
	Flush(ctx context.Context) error
}

// Syncer is a store that can force its data to stable storage.
type Syncer interface {
	// Sync returns once all that was acknowledged before the call survives a
	// loss of power.
	Sync(ctx context.Context) error
}

// Statter is a store that can describe itself.
type Statter interface {
	// Stat counts keys and bytes.
	Stat(ctx context.Context) (Stats, error)
}

// Checker is a store that can compare what it holds with its checksums.
type Checker interface {
	// Check reads everything. It goes on after damage, and its error joins a
	// [CorruptError] for each place.
	Check(ctx context.Context) (Checked, error)
}

// Checked is the account of what could be read.
type Checked struct {
	Records  int64 // all that was ever appended or set
	Segments int64 // parts of the store that are complete
}

// MemoryUser is a store that knows how much memory it takes, at any time and at
// no cost. [Buffer] asks its fast store for it.
type MemoryUser interface {
	// MemoryUsed returns the bytes held for data and for what keeps it in order.
	MemoryUsed() int64
}

// Unwrapper is a layer over another store. Unwrap is for looking only: an
// operation on what it returns skips the layer, and finds compressed or stale
// bytes.
type Unwrapper interface {
	Unwrap() Partd
}

// The helpers below work on any store. Where a store lacks an ability, Open falls
// back to Get, Scan to Keys and Open, and Stat to the sum of Keys; the others, and
// these where that is lacking too, return an error that wraps
// errors.ErrUnsupported. A layer has every ability, and passes it on by these
// helpers, so that it can what the store beneath it can.

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

// Delete removes keys; see [Deleter].
func Delete(ctx context.Context, store Partd, keys ...string) error {
	if s, ok := store.(Deleter); ok {
		return s.Delete(ctx, keys...)
	}
	return unsupported("delete", store)
}

// Keys yields each key once with its size; see [Lister].
func Keys(ctx context.Context, store Partd) iter.Seq2[KeyInfo, error] {
	if s, ok := store.(Lister); ok {
		return s.Keys(ctx)
	}
	return func(yield func(KeyInfo, error) bool) { yield(KeyInfo{}, unsupported("keys", store)) }
}

// Open returns a reader of a key's value; see [Opener]. On a store that cannot
// stream it reads the value with Get, whole.
func Open(ctx context.Context, store Partd, key string) (io.ReadCloser, error) {
	if s, ok := store.(Opener); ok {
		return s.Open(ctx, key)
	}
	values, err := store.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(values[0])), nil
}

// Scan yields every key with its whole value; see [Scanner]. On a store that cannot
// scan it lists the keys and opens each, which is no snapshot.
func Scan(ctx context.Context, store Partd) iter.Seq2[Chunk, error] {
	if s, ok := store.(Scanner); ok {
		return s.Scan(ctx)
	}
	return func(yield func(Chunk, error) bool) {
		if _, ok := store.(Lister); !ok {
			yield(Chunk{}, unsupported("scan", store))
			return
		}
		scanByOpen(ctx, store, yield)
	}
}

// Pop returns the values of keys and removes them; see [Popper].
func Pop(ctx context.Context, store Partd, keys ...string) ([][]byte, error) {
	if s, ok := store.(Popper); ok {
		return s.Pop(ctx, keys...)
	}
	return nil, unsupported("pop", store)
}

// Flush moves what a layer holds back to the store beneath; see [Flusher].
func Flush(ctx context.Context, store Partd) error {
	if s, ok := store.(Flusher); ok {
		return s.Flush(ctx)
	}
	return unsupported("flush", store)
}

// Sync forces data to stable storage; see [Syncer].
func Sync(ctx context.Context, store Partd) error {
	if s, ok := store.(Syncer); ok {
		return s.Sync(ctx)
	}
	return unsupported("sync", store)
}

// Stat counts keys and bytes; see [Statter]. On a store that cannot describe itself
// it lists the keys.
func Stat(ctx context.Context, store Partd) (Stats, error) {
	if s, ok := store.(Statter); ok {
		return s.Stat(ctx)
	}
	if _, ok := store.(Lister); ok {
		return statByKeys(ctx, store)
	}
	return Stats{}, unsupported("stat", store)
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
