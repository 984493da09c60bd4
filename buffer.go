package partd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"log/slog"
	"sync"

	"github.com/go-partd/partd/internal/base/keymap"
)

// DefaultBufferMemory is the default of BufferOptions.Memory, in bytes.
const DefaultBufferMemory = 1 << 30

// BufferOptions are the options of NewBuffer.
type BufferOptions struct {
	// Memory is the budget in bytes for keys, values and their index; 0 means DefaultBufferMemory.
	// A batch larger than half of the budget goes straight to the slow store. So does a batch with
	// more than 32 MiB, or more than a sixteenth of the budget, for one key. A slow store whose
	// [BatchBytes] are less than 4 MiB lowers this limit, to eight times as much.
	Memory int64
	// Logger receives a warning when a background flush fails; nil means no logging.
	Logger *slog.Logger
}

// Buffer is a fast store, usually in memory, in front of a slower store. Appends go to the fast
// store. When three quarters of the budget are used, the largest keys move to the slow store in the
// background, in a few large appends. At the full budget, Append waits. A key always moves as a
// whole. If its data reaches a sixty-fourth of the budget, or 8 MiB, the key moves soon. While a
// key moves, operations on it wait; operations on other keys do not.
//
// A failed flush neither loses nor duplicates data. Data that has not moved stays in the fast
// store, and a later flush moves it. Flush and Close report the error, and so does Append at the
// full budget. If the slow store cannot tell whether an append took effect ([ErrUnknownOutcome]),
// the Buffer does not retry that append. Reading the append's keys fails until they are set,
// deleted or dropped.
//
// Keys, Scan, Stat and Open first move the data that they read to the slow store. If the
// process dies, data appended after the last successful Flush can be lost.
type Buffer struct {
	fast, slow Partd
	memory     int64 // budget of the fast store and the index, in bytes
	moveSize   int   // maximum size of one append to the slow store, in bytes
	log        *slog.Logger
	seed       maphash.Seed
	strings    keymap.Slab // long keys of the index
	batches    sync.Pool   // holds *bufferBatch values
	scratch    chan []byte // holds the spare buffer for moves

	// mu guards the fields below. It is never held while a store is called, except for
	// MemoryUsed. No other lock of the Buffer is taken while mu is held.
	mu            sync.Mutex
	index         keymap.Map[bufferKey] // every key with data in the fast store or with a running operation
	bytes         int64                 // sum of the sizes in index
	admittedBytes int64                 // bytes reserved by running Appends
	activeOps     int
	tickets       uint32        // newest ticket given to a waiting operation
	changed       chan struct{} // closed and replaced to wake waiting operations
	waiters       int           // operations that wait for changed
	hasHeavyKey   bool          // some key should move because of its size
	isFlushing    bool          // a background flush is running
	failures      int           // background flushes that failed
	flushErr      error         // error of the last failed background flush
	isBlocked     bool          // Drop or Close runs alone, so no other operation may begin
	isClosing     bool          // only Close may begin
	closed        bool
}

// NewBuffer returns a Buffer that puts fast in front of slow. The Buffer owns both stores:
// its Close closes them. fast must be a [Deleter]. If fast is a [Lister], it may contain data: a
// key's data in fast then follows the key's data in slow. Otherwise, fast must be empty.
func NewBuffer(fast, slow Partd, opts *BufferOptions) (*Buffer, error) {
	opts = cmp.Or(opts, new(BufferOptions))
	fail := func(err error) (*Buffer, error) { return nil, &Error{Op: "new buffer", Err: err} }
	ctx := context.Background()
	if fast == nil || slow == nil {
		return fail(errors.New("fast and slow must not be nil"))
	}
	if err := Delete(ctx, fast); err != nil {
		return fail(fmt.Errorf("the fast store must be able to delete keys: %w", err))
	}
	if opts.Memory < 0 {
		return fail(fmt.Errorf("option Memory is %d bytes: it must be positive, or 0 for the default of %d", opts.Memory, DefaultBufferMemory))
	}
	memory := cmp.Or(opts.Memory, DefaultBufferMemory)
	b := &Buffer{
		fast: fast, slow: slow, log: opts.Logger, seed: maphash.MakeSeed(),
		moveSize: int(max(min(memory/32, 16<<20, 4*int64(BatchBytes(slow))), 4<<10)),
		scratch:  make(chan []byte, 1), changed: make(chan struct{}),
	}
	b.memory = memory - min(2*int64(b.moveSize), memory/2)
	b.log = cmp.Or(b.log, slog.New(slog.DiscardHandler))
	b.batches.New = func() any { return new(bufferBatch) }
	b.index.Strings = &b.strings
	var empty []string
	for info, err := range Keys(ctx, fast) {
		if errors.Is(err, errors.ErrUnsupported) {
			break
		}
		if err != nil {
			return fail(fmt.Errorf("listing the keys of the fast store: %w", err))
		}
		if info.Size == 0 {
			empty = append(empty, info.Key)
			continue
		}
		id := b.index.Insert(keymap.Hash(b.seed, info.Key), info.Key)
		b.index.Val(id).size = info.Size
		b.bytes += info.Size
	}
	// The index cannot represent a key with an empty value, so move such keys to the slow store.
	for _, key := range empty {
		if err := SetOnce(ctx, slow, key, nil); err != nil {
			return fail(fmt.Errorf("moving a key with an empty value to the slow store: %w", err))
		}
		if err := Delete(ctx, fast, key); err != nil {
			return fail(err)
		}
	}
	return b, nil
}

// Unwrap returns the slow store.
func (b *Buffer) Unwrap() Partd { return b.slow }

// MemoryUsed returns the bytes that currently count against the budget.
func (b *Buffer) MemoryUsed() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used()
}

// Append adds each entry's value to the end of its key's value. It waits while the budget
// is full, and while a key of the batch moves to the slow store.
func (b *Buffer) Append(ctx context.Context, entries ...Entry) error {
	valueBytes, err := checkEntries("append", entries)
	if err != nil {
		return err
	}
	if valueBytes == 0 || b.fast == nil {
		return b.check(ctx, "append")
	}
	batch := b.batches.Get().(*bufferBatch)
	if len(entries) <= maxPooledBatch {
		defer b.batches.Put(batch)
	}
	batch.hash(b.seed, entries)
	need := batch.needs(entries, valueBytes, b.memory/2)
	if need > b.memory/2 {
		return b.appendDirectly(ctx, entries)
	}
	if err := b.admit(ctx, entries, batch, need); err != nil {
		return err
	}
	if batch.exceedsMove {
		b.settle(entries, batch, need, errCrowded)
		return b.appendDirectly(ctx, entries)
	}
	err = b.fast.Append(ctx, entries...)
	b.settle(entries, batch, need, err)
	return err
}

// errCrowded means that a batch must go directly to the slow store. In the fast store, the batch
// would make a key too large to move in one append.
var errCrowded = errors.New("too much for one key")

// appendDirectly moves the buffered data of the batch's keys to the slow store, and then appends
// the batch there.
func (b *Buffer) appendDirectly(ctx context.Context, entries []Entry) error {
	keys := make([]string, 0, len(entries))
	for i := range entries {
		if len(entries[i].Value) > 0 {
			keys = append(keys, entries[i].Key)
		}
	}
	held, err := b.holdMoved(ctx, "append", keys, false)
	if err != nil {
		return err
	}
	defer b.release(held)
	return b.slow.Append(ctx, entries...)
}

// Get returns each key's value: its data in the slow store, followed by its data in the fast one.
func (b *Buffer) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := checkKeys("get", keys); err != nil {
		return nil, err
	}
	pinned, err := b.pin(ctx, "get", keys)
	if err != nil {
		return nil, err
	}
	defer b.release(pinned)
	return b.join(ctx, keys, pinned, b.slow.Get)
}

// join returns the value of each key: the data that getSlow reads from the slow store, followed by
// the data in the fast store. parts describes the same keys, which must be pinned or held.
func (b *Buffer) join(ctx context.Context, keys []string, parts []bufferPart,
	getSlow func(context.Context, ...string) ([][]byte, error),
) ([][]byte, error) {
	var fastKeys []string
	for _, p := range parts {
		if p.size > p.moved {
			fastKeys = append(fastKeys, p.key)
		}
	}
	var fastValues [][]byte
	if len(fastKeys) > 0 {
		var err error
		if fastValues, err = b.fast.Get(ctx, fastKeys...); err != nil {
			return nil, err
		}
	}
	values, err := getSlow(ctx, keys...)
	if err != nil {
		return nil, err
	}
	n := 0
	for i, p := range parts {
		if p.size > p.moved {
			values[i] = append(values[i], fastValues[n][p.moved:]...)
			n++
		}
	}
	return values, nil
}

// Set replaces the value of a key. The new value goes to the slow store.
func (b *Buffer) Set(ctx context.Context, key string, value []byte) error {
	return b.replace(ctx, "set", []string{key}, func() error { return Set(ctx, b.slow, key, value) })
}

// SetOnce sets a key in the slow store if it exists in neither store.
func (b *Buffer) SetOnce(ctx context.Context, key string, value []byte) error {
	if _, err := checkEntries("set once", []Entry{{key, value}}); err != nil {
		return err
	}
	held, err := b.hold(ctx, "set once", []string{key}, false)
	if err != nil {
		return err
	}
	defer b.release(held)
	if held[0].size > held[0].moved {
		return nil
	}
	return SetOnce(ctx, b.slow, key, value)
}

// Delete removes keys from both stores.
func (b *Buffer) Delete(ctx context.Context, keys ...string) error {
	return b.replace(ctx, "delete", keys, func() error { return Delete(ctx, b.slow, keys...) })
}

// replace calls do, which replaces or deletes keys in the slow store, and then discards
// the buffered data of the keys.
func (b *Buffer) replace(ctx context.Context, op string, keys []string, do func() error) error {
	if err := checkKeys(op, keys); err != nil {
		return err
	}
	held, err := b.hold(ctx, op, keys, true)
	if err != nil {
		return err
	}
	defer b.release(held)
	if err := do(); err != nil {
		b.markDoubtfulIfUnknown(held, err)
		return err
	}
	b.discardReplaced(ctx, held)
	return nil
}

// discardReplaced discards the buffered data of replaced keys. It only logs a failure,
// because the slow store has already made the change.
func (b *Buffer) discardReplaced(ctx context.Context, held []bufferPart) {
	if err := b.discard(ctx, held); err != nil {
		b.log.Warn("partd: buffer: replaced data could not be removed from the fast store; a later flush will retry", "error", err)
	}
}

// Pop returns the values of keys and removes the keys from both stores.
func (b *Buffer) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := checkKeys("pop", keys); err != nil {
		return nil, err
	}
	held, err := b.hold(ctx, "pop", keys, false)
	if err != nil {
		return nil, err
	}
	defer b.release(held)
	values, err := b.join(ctx, keys, held, func(ctx context.Context, keys ...string) ([][]byte, error) {
		return Pop(ctx, b.slow, keys...)
	})
	if err != nil {
		b.markDoubtfulIfUnknown(held, err)
		return nil, err
	}
	b.discardReplaced(ctx, held)
	return values, nil
}

// Keys moves all data to the slow store and lists that store's keys.
func (b *Buffer) Keys(ctx context.Context) iter.Seq2[KeyInfo, error] {
	return flushThenList(ctx, b, "keys", Keys)
}

// Scan moves all data to the slow store and scans that store.
func (b *Buffer) Scan(ctx context.Context) iter.Seq2[Chunk, error] {
	return flushThenList(ctx, b, "scan", Scan)
}

// ScanPart moves all data to the slow store and scans a part of that store.
func (b *Buffer) ScanPart(ctx context.Context, part, parts int) iter.Seq2[Chunk, error] {
	if err := checkPart(part, parts); err != nil {
		return failed[Chunk](err)
	}
	return flushThenList(ctx, b, "scan", func(ctx context.Context, slow Partd) iter.Seq2[Chunk, error] {
		return ScanPart(ctx, slow, part, parts)
	})
}

func flushThenList[T any](ctx context.Context, b *Buffer, op string, list func(context.Context, Partd) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if err := b.flush(ctx, op); err != nil {
			var zero T
			yield(zero, err)
			return
		}
		list(ctx, b.slow)(yield)
	}
}

// Open moves the key to the slow store and opens it there.
func (b *Buffer) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := checkKeys("open", []string{key}); err != nil {
		return nil, err
	}
	held, err := b.holdMoved(ctx, "open", []string{key}, false)
	if err != nil {
		return nil, err
	}
	defer b.release(held)
	return Open(ctx, b.slow, key)
}

// HasKey reports whether the key exists.
func (b *Buffer) HasKey(ctx context.Context, key string) (bool, error) {
	if err := checkKeys("has", []string{key}); err != nil {
		return false, err
	}
	pinned, err := b.pin(ctx, "has", []string{key})
	if err != nil {
		return false, err
	}
	defer b.release(pinned)
	if pinned[0].size > pinned[0].moved {
		return true, nil
	}
	return Has(ctx, b.slow, key)
}

// Stat moves all data to the slow store and returns that store's statistics, with the
// Buffer's memory added.
func (b *Buffer) Stat(ctx context.Context) (Stats, error) {
	if err := b.flush(ctx, "stat"); err != nil {
		return Stats{}, err
	}
	st, err := Stat(ctx, b.slow)
	st.Memory += b.MemoryUsed()
	return st, err
}

// Sync moves all data to the slow store and syncs that store.
func (b *Buffer) Sync(ctx context.Context) error {
	if err := b.flush(ctx, "sync"); err != nil {
		return err
	}
	return Sync(ctx, b.slow)
}
