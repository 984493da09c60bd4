package partd

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"

	"github.com/go-partd/partd/internal/base/storeerror"
)

// Flush moves the data of all Appends that returned before the call to the slow store, and then
// flushes the slow store.
func (b *Buffer) Flush(ctx context.Context) error {
	if err := b.flush(ctx, "flush"); err != nil {
		b.needsFlush.Store(true)
		return storeerror.RetriedByClose(err)
	}
	if err := Flush(ctx, b.slow); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// flush moves every key with data in the fast store to the slow one. If ctx ends, flush
// returns early, but its current append to the slow store still completes.
func (b *Buffer) flush(ctx context.Context, op string) error {
	if err := b.pins.checkOpen(ctx, op); err != nil {
		return err
	}
	b.pins.mu.Lock()
	keys, doubtErr := b.pins.index.buffered(op)
	b.pins.mu.Unlock()
	if err := b.mover.moveKeys(ctx, op, keys); err != nil {
		return err
	}
	return doubtErr
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
	if err := b.pins.checkOpen(ctx, "open"); err != nil {
		return nil, err
	}
	held, err := b.mover.holdMoved(ctx, "open", []string{key}, false)
	if err != nil {
		return nil, err
	}
	defer b.pins.release(held)
	return Open(ctx, b.slow, key)
}

// HasKey reports whether the key exists.
func (b *Buffer) HasKey(ctx context.Context, key string) (bool, error) {
	if err := checkKeys("has", []string{key}); err != nil {
		return false, err
	}
	pinned, err := b.pins.pin(ctx, "has", []string{key})
	if err != nil {
		return false, err
	}
	defer b.pins.release(pinned)
	if pinned[0].size > pinned[0].staleBytes {
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

// Close flushes the buffer and closes both stores. If the flush fails, Close returns the
// error, closes nothing, and keeps the data that was not moved. Then call Close again
// when the cause is gone, or Drop to abandon the data. If the slow store cannot tell whether
// it has some key's data, Close still closes both stores, but returns an error. The same
// is true if Close moves data, or repeats a Flush that failed, and cannot flush the slow store
// afterwards. Operations that begin while Close runs fail with [ErrClosed].
func (b *Buffer) Close() error {
	ctx := context.Background()
	if b.pins.checkOpen(ctx, opClose) != nil {
		return nil // already closed
	}
	b.pins.setClosing(true)
	var flushErr error
	for closed := false; !closed; {
		b.pins.mu.Lock()
		if len(b.pins.index.keysLargerThan(0)) > 0 {
			b.needsFlush.Store(true)
		}
		b.pins.mu.Unlock()
		flushErr = b.flush(ctx, opClose)
		if flushErr != nil && !errors.Is(flushErr, errInDoubt) {
			b.pins.setClosing(false)
			return flushErr
		}
		if b.pins.blockOperations(ctx, opClose) != nil {
			return nil // another Close closed it
		}
		b.pins.mu.Lock()
		// Flush again if an Append ended between the flush and blockOperations.
		closed = len(b.pins.index.keysLargerThan(0)) == 0
		b.pins.closed = closed
		b.pins.mu.Unlock()
		b.pins.unblockOperations()
	}
	errs := []error{flushErr}
	if b.needsFlush.Load() {
		if err := Flush(ctx, b.slow); err != nil && !storeerror.LosesNothing(err) {
			errs = append(errs, err)
		}
	}
	for _, store := range []Partd{b.fast, b.slow} {
		if c, ok := store.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// Drop removes every key from both stores.
func (b *Buffer) Drop(ctx context.Context) error {
	if err := b.pins.blockOperations(ctx, "drop"); err != nil {
		return err
	}
	defer b.pins.unblockOperations()
	if err := b.slow.Drop(ctx); err != nil {
		b.pins.mu.Lock()
		var all []pinnedKey
		for id := range b.pins.index.IDs {
			all = append(all, pinnedKey{id: id})
		}
		b.pins.mu.Unlock()
		b.mover.markDoubtfulIfUnknown(all, err)
		return err
	}
	// The slow store is empty, so the drop has taken effect. If removing the fast store's data
	// fails, mark that data as stale instead.
	err := b.fast.Drop(context.WithoutCancel(ctx))
	b.pins.mu.Lock()
	defer b.pins.mu.Unlock()
	for _, id := range slices.Collect(b.pins.index.IDs) {
		b.pins.index.settleMoved(id, err == nil)
	}
	if err != nil {
		b.log.Warn("partd: buffer: dropped data could not be removed from the fast store; a later flush will retry", "error", err)
	}
	return nil
}
