package partd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/base/keymap"
)

// DefaultBufferMemory is the default of BufferOptions.Memory, in bytes.
const DefaultBufferMemory = 1 << 30

// BufferOptions are the options for NewBuffer.
type BufferOptions struct {
	// Memory is the budget in bytes for keys, values and their index; 0 means DefaultBufferMemory.
	// A Buffer uses at most 192 GiB.
	// A batch larger than half of the budget goes straight to the slow store. So does a batch with
	// more than 32 MiB, or more than a sixteenth of the budget, for one key. If the slow store's
	// [BatchBytes] is less than 4 MiB, the limit per key is at most eight times BatchBytes.
	Memory int64
	// Logger receives a warning when a background flush fails; nil means no logging.
	Logger *slog.Logger
}

// Buffer is a fast store, usually in memory, in front of a slower store. Appends go to the fast
// store. When three quarters of the budget is used, the largest keys move to the slow store in the
// background, in a few large appends. When the budget is full, Append waits. A key always moves as
// a whole. If its data reaches a sixty-fourth of the budget, or 8 MiB, the key moves soon. While a
// key moves, operations on it wait; operations on other keys do not.
//
// A failed flush neither loses nor duplicates data. Data that has not moved stays in the fast
// store, and a later flush moves it. Flush and Close report the error, and so does Append while the
// budget is full. If the slow store cannot tell whether an append took effect
// ([ErrUnknownOutcome]), the Buffer does not retry that append. Reading the append's keys fails
// until they are set, deleted or dropped.
//
// Keys, Scan, Stat and Open first move the data that they read to the slow store. If the
// process dies, data appended after the last successful Flush can be lost.
type Buffer struct {
	fast, slow Partd
	log        *slog.Logger
	batches    sync.Pool   // holds *bufferBatch values
	needsFlush atomic.Bool // Close must flush the slow store, because an earlier flush failed or Close has moved data

	pins      bufferPins // guards the parts below: see bufferGate.mu
	mover     bufferMover
	budget    bufferBudget
	flusher   bufferFlusher
	admission bufferAdmission
}

// NewBuffer returns a Buffer that collects data in fast and later moves it to slow. The Buffer owns
// both stores: its Close closes them. fast must be a [Deleter]. If fast is a [Lister], it may already
// contain data: for each key, that data counts as appended after the data in slow. Otherwise, fast
// must be empty.
//
// If fast survives the process, as a [File] does, a kill while data moves can repeat that data: the
// Buffer first appends it to slow and then deletes it from fast, and a new Buffer over both returns
// it twice. If that matters, let fast be a [Dict], or empty it before NewBuffer.
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
	memory := min(cmp.Or(opts.Memory, DefaultBufferMemory), keymap.MaxBytes/4*3) // a Dict refuses more
	b := &Buffer{
		fast: fast, slow: slow, log: cmp.Or(opts.Logger, slog.New(slog.DiscardHandler)),
		batches: sync.Pool{New: func() any { return new(bufferBatch) }},
	}
	moveSize := int(max(min(memory/32, 16<<20, 4*int64(BatchBytes(slow))), 4<<10))
	memory -= min(2*int64(moveSize), memory/2)
	pins, index := &b.pins, &b.pins.index
	pins.isOpen, pins.changed = true, make(chan struct{})
	index.seed, index.Strings = maphash.MakeSeed(), &index.slab
	b.mover = bufferMover{pins: pins, fast: fast, slow: slow, moveSize: moveSize, scratch: make(chan []byte, 1)}
	b.budget = bufferBudget{index: index, fast: fast, memory: memory}
	b.flusher = bufferFlusher{pins: pins, mover: &b.mover, budget: &b.budget, log: b.log}
	b.admission = bufferAdmission{pins: pins, budget: &b.budget, flusher: &b.flusher, moveSize: moveSize}
	var emptyKeys []string
	for info, err := range Keys(ctx, fast) {
		if errors.Is(err, errors.ErrUnsupported) {
			break
		}
		if err != nil {
			return fail(fmt.Errorf("listing the keys of the fast store: %w", err))
		}
		if info.Size == 0 {
			emptyKeys = append(emptyKeys, info.Key)
			continue
		}
		id := index.Insert(keymap.Hash(index.seed, info.Key), info.Key)
		index.Val(id).size = info.Size
		index.bytes += info.Size
	}
	// The index cannot represent a key with an empty value, so move such keys to the slow store.
	for _, key := range emptyKeys {
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

// MemoryUsed returns the memory in use, in bytes, which BufferOptions.Memory limits.
func (b *Buffer) MemoryUsed() int64 {
	if b.fast == nil {
		return 0
	}
	b.pins.mu.Lock()
	defer b.pins.mu.Unlock()
	return b.budget.used()
}

// Append adds each entry's value to the end of its key's value. It waits while the memory
// budget is full or a key of the batch is moving to the slow store.
func (b *Buffer) Append(ctx context.Context, entries ...Entry) error {
	valueBytes, err := checkEntries("append", entries)
	if err != nil {
		return err
	}
	if valueBytes == 0 || b.fast == nil {
		return b.pins.checkOpen(ctx, "append")
	}
	batch := b.batches.Get().(*bufferBatch)
	if len(entries) <= maxPooledBatch {
		defer b.batches.Put(batch)
	}
	batch.hash(b.pins.index.seed, entries)
	need := batch.needs(entries, valueBytes, b.budget.memory/2)
	if need > b.budget.memory/2 {
		return b.appendDirectly(ctx, entries)
	}
	if err := b.admission.admit(ctx, entries, batch, need); err != nil {
		return err
	}
	if batch.exceedsMove {
		b.admission.settle(entries, batch, need, errCrowded)
		return b.appendDirectly(ctx, entries)
	}
	err = b.fast.Append(ctx, entries...)
	b.admission.settle(entries, batch, need, err)
	return err
}

// errCrowded means that a batch must go directly to the slow store. In the fast store, the batch
// would make a key too large to move in one append.
var errCrowded = errors.New("too much for one key")

// appendDirectly moves the buffered data of the batch's keys to the slow store and then appends
// the batch there.
func (b *Buffer) appendDirectly(ctx context.Context, entries []Entry) error {
	keys := make([]string, 0, len(entries))
	for i := range entries {
		if len(entries[i].Value) > 0 {
			keys = append(keys, entries[i].Key)
		}
	}
	held, err := b.mover.holdMoved(ctx, "append", keys, false)
	if err != nil {
		return err
	}
	defer b.pins.release(held)
	return b.slow.Append(ctx, entries...)
}

// Get returns each key's value: its data in the slow store, followed by its data in the fast one.
func (b *Buffer) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := checkKeys("get", keys); err != nil {
		return nil, err
	}
	pinned, err := b.pins.pin(ctx, "get", keys)
	if err != nil {
		return nil, err
	}
	defer b.pins.release(pinned)
	return b.join(ctx, keys, pinned, b.slow.Get)
}

// join returns the value of each key: the data that getSlow reads from the slow store, followed by
// the data in the fast store. pinned describes the same keys, which must be pinned or held.
func (b *Buffer) join(ctx context.Context, keys []string, pinned []pinnedKey,
	getSlow func(context.Context, ...string) ([][]byte, error),
) ([][]byte, error) {
	var fastKeys []string
	for _, p := range pinned {
		if p.size > p.staleBytes {
			fastKeys = append(fastKeys, p.key)
		}
	}
	var fastValues [][]byte
	if len(fastKeys) > 0 {
		var err error
		fastValues, err = b.fast.Get(ctx, fastKeys...)
		if err != nil {
			return nil, err
		}
	}
	values, err := getSlow(ctx, keys...)
	if err != nil {
		return nil, err
	}
	n := 0
	for i, p := range pinned {
		if p.size > p.staleBytes {
			values[i] = append(values[i], fastValues[n][p.staleBytes:]...)
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
	held, err := b.pins.hold(ctx, "set once", []string{key}, false)
	if err != nil {
		return err
	}
	defer b.pins.release(held)
	if held[0].size > held[0].staleBytes {
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
	held, err := b.pins.hold(ctx, op, keys, true)
	if err != nil {
		return err
	}
	defer b.pins.release(held)
	if err := do(); err != nil {
		b.mover.markDoubtfulIfUnknown(held, err)
		return err
	}
	b.discardReplaced(ctx, held)
	return nil
}

// discardReplaced discards the buffered data of replaced keys. It only logs a failure,
// because the slow store has already made the change.
func (b *Buffer) discardReplaced(ctx context.Context, held []pinnedKey) {
	if err := b.mover.discard(ctx, held); err != nil {
		b.log.Warn("partd: buffer: replaced data could not be removed from the fast store; a later flush will retry", "error", err)
	}
}

// Pop returns the values of keys and removes the keys from both stores.
func (b *Buffer) Pop(ctx context.Context, keys ...string) ([][]byte, error) {
	if err := checkKeys("pop", keys); err != nil {
		return nil, err
	}
	held, err := b.pins.hold(ctx, "pop", keys, false)
	if err != nil {
		return nil, err
	}
	defer b.pins.release(held)
	values, err := b.join(ctx, keys, held, func(ctx context.Context, keys ...string) ([][]byte, error) {
		return Pop(ctx, b.slow, keys...)
	})
	if err != nil {
		b.mover.markDoubtfulIfUnknown(held, err)
		return nil, err
	}
	b.discardReplaced(ctx, held)
	return values, nil
}
