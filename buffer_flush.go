package partd

import (
	"context"
	"errors"
	"io"
	"math/bits"
	"slices"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/keymap"
)

// Flush moves the data of all Appends that returned before the call to the slow store, and then
// flushes the slow store.
func (b *Buffer) Flush(ctx context.Context) error {
	if err := b.flush(ctx, "flush"); err != nil {
		return err
	}
	if err := Flush(ctx, b.slow); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// flush moves every key with data in the fast store to the slow one. If ctx ends, flush
// returns early, but its current append to the slow store still completes.
func (b *Buffer) flush(ctx context.Context, op string) error {
	if err := b.check(ctx, op); err != nil {
		return err
	}
	b.mu.Lock()
	var keys []string
	var doubtErr error
	for id := range b.index.IDs {
		k := b.index.Val(id)
		switch {
		case k.isDoubtful():
			doubtErr = inDoubt(op, string(b.index.Key(id)))
		case k.size > 0:
			keys = append(keys, string(b.index.Key(id)))
		}
	}
	b.mu.Unlock()
	if err := b.moveKeys(ctx, op, keys); err != nil {
		return err
	}
	return doubtErr
}

// maxMoveKeys limits the number of keys of one append to the slow store, because each key needs
// memory for its bookkeeping.
const maxMoveKeys = 4096

// nextMoveLen returns how many of the first keys fit into one append to the slow store, at
// least one.
func (b *Buffer) nextMoveLen(keys []string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	total := int64(0)
	for i, key := range keys {
		if id := b.find(key); id != 0 {
			total += b.index.Val(id).size + int64(len(key))
		}
		if i == maxMoveKeys || i > 0 && total > int64(b.moveSize) {
			return i
		}
	}
	return len(keys)
}

func (b *Buffer) moveKeys(ctx context.Context, op string, keys []string) error {
	for len(keys) > 0 {
		n := b.nextMoveLen(keys)
		held, err := b.holdMoved(ctx, op, keys[:n], true)
		if err != nil {
			return err
		}
		b.release(held)
		keys = keys[n:]
	}
	return nil
}

// startFlush starts a background flush unless one is running. mu must be held.
func (b *Buffer) startFlush() {
	if !b.isFlushing && !b.closed {
		b.isFlushing = true
		go b.flushInBackground()
	}
}

// flushInBackground flushes overlarge keys, and then the largest keys until half of the budget
// is free.
func (b *Buffer) flushInBackground() {
	var err error
	for err == nil {
		b.mu.Lock()
		excess := b.excess()
		if excess <= 0 && !b.hasHeavyKey || b.closed {
			b.isFlushing = false
			b.wake()
			b.mu.Unlock()
			return
		}
		heavy := b.hasHeavyKey
		b.hasHeavyKey = false
		var ids []keymap.ID
		var keys []string
		if heavy {
			keys = b.keysLargerThan(int64(b.moveSize / 2))
		}
		if excess > 0 {
			if ids = b.largestIdle(excess); len(ids) == 0 && len(keys) == 0 {
				// All keys are in use: choose some, and let moveKeys wait for them.
				keys = b.keysLargerThan(0)
				switch {
				case len(keys) > 0:
				case b.hasDoubtfulKey():
					err = errInDoubt
				default:
					// Nothing is left to flush. The operations that still run will wake the Appends
					// that wait for space.
					b.isFlushing = false
					b.mu.Unlock()
					return
				}
			}
		}
		b.mu.Unlock()
		if err == nil {
			err = b.moveKeys(context.Background(), "flush", keys)
		}
		if err == nil {
			err = b.flushIdle(ids)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.isFlushing = false
	if !b.closed {
		b.log.Warn("partd: buffer: a background flush failed; it will be retried", "error", err)
		b.failures++
		b.flushErr = err
	}
	b.wake()
}

// keysLargerThan returns up to 64 keys with more than size bytes. mu must be held.
func (b *Buffer) keysLargerThan(size int64) []string {
	const maxKeys = 64
	var keys []string
	for id := range b.index.IDs {
		if k := b.index.Val(id); k.size > size && !k.isDoubtful() {
			if keys = append(keys, string(b.index.Key(id))); len(keys) == maxKeys {
				break
			}
		}
	}
	return keys
}

// hasDoubtfulKey reports whether any key is in doubt (see doubtBit). mu must be held.
func (b *Buffer) hasDoubtfulKey() bool {
	for id := range b.index.IDs {
		if b.index.Val(id).isDoubtful() {
			return true
		}
	}
	return false
}

// isIdle reports whether a key can be flushed without waiting for an operation.
func (k *bufferKey) isIdle() bool { return k.size > 0 && k.state == 0 && k.ticket == 0 }

// largestIdle returns idle keys with a total of atLeast bytes or, if there are too few, all idle
// keys. It prefers large keys, but not strictly. mu must be held.
func (b *Buffer) largestIdle(atLeast int64) []keymap.ID {
	const steps = 4 // size classes for each power of two
	class := func(size int64) int {
		n := bits.Len64(uint64(size))
		return n*steps + int(uint64(size)<<(64-n)>>61&(steps-1))
	}
	var sums [65 * steps]int64
	for id := range b.index.IDs {
		if k := b.index.Val(id); k.isIdle() {
			sums[class(k.size)] += k.size
		}
	}
	threshold := len(sums) - 1
	for sum := int64(0); threshold > 0; threshold-- {
		if sum += sums[threshold]; sum >= atLeast {
			break
		}
	}
	var ids []keymap.ID
	lastClassBytes := int64(0)
	for id := range b.index.IDs {
		k := b.index.Val(id)
		c := class(k.size)
		if !k.isIdle() || c < threshold {
			continue
		}
		if c == threshold {
			if lastClassBytes >= atLeast {
				continue
			}
			lastClassBytes += k.size
		}
		ids = append(ids, id)
	}
	return ids
}

// flushIdle moves idle keys to the slow store, about moveSize bytes at a time. It skips keys that
// are no longer idle. If an ID now belongs to another key, flushIdle moves that key, which does no
// harm.
func (b *Buffer) flushIdle(ids []keymap.ID) error {
	ctx := context.Background()
	var held []bufferPart
	for len(ids) > 0 {
		held = held[:0]
		b.mu.Lock()
		for b.isBlocked && !b.closed {
			b.wait(ctx)
		}
		if b.closed {
			b.mu.Unlock()
			return nil
		}
		total := int64(0)
		for len(ids) > 0 && len(held) < maxMoveKeys && (len(held) == 0 || total < int64(b.moveSize)) {
			id := ids[0]
			if b.index.Exists(id) {
				if k := b.index.Val(id); k.isIdle() {
					size := k.size + int64(len(b.index.Key(id)))
					if total > 0 && total+size > int64(b.moveSize) {
						break
					}
					k.state |= heldBit
					total += size
					held = append(held, bufferPart{id: id, key: string(b.index.Key(id)), size: k.size, moved: k.moved})
				}
			}
			ids = ids[1:]
		}
		b.beginOp()
		b.mu.Unlock()
		_, err := b.move(ctx, held)
		b.release(held)
		if err != nil {
			return err
		}
	}
	return nil
}

// Close flushes the buffer and closes both stores. If the flush fails, Close returns the
// error, closes nothing, and keeps the data that was not moved. Then call Close again
// when the cause is gone, or Drop to abandon the data. If the slow store cannot tell whether
// it has some key's data, Close still closes both stores, but returns an error. Operations
// that begin while Close runs fail with [ErrClosed].
func (b *Buffer) Close() error {
	ctx := context.Background()
	if b.check(ctx, opClose) != nil {
		return nil // already closed
	}
	b.setClosing(true)
	var flushErr error
	for closed := false; !closed; {
		flushErr = b.flush(ctx, opClose)
		if flushErr != nil && !errors.Is(flushErr, errInDoubt) {
			b.setClosing(false)
			return flushErr
		}
		if b.blockOperations(ctx, opClose) != nil {
			return nil // another Close closed it
		}
		b.mu.Lock()
		// Flush again if an Append ended between the flush and blockOperations.
		closed = len(b.keysLargerThan(0)) == 0
		b.closed = closed
		b.mu.Unlock()
		b.unblockOperations()
	}
	errs := []error{flushErr}
	for _, store := range []Partd{b.fast, b.slow} {
		if c, ok := store.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

func (b *Buffer) setClosing(closing bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.isClosing = closing
	b.wake()
}

// Drop removes every key from both stores.
func (b *Buffer) Drop(ctx context.Context) error {
	if err := b.blockOperations(ctx, "drop"); err != nil {
		return err
	}
	defer b.unblockOperations()
	if err := b.slow.Drop(ctx); err != nil {
		b.mu.Lock()
		var all []bufferPart
		for id := range b.index.IDs {
			all = append(all, bufferPart{id: id})
		}
		b.mu.Unlock()
		b.markDoubtfulIfUnknown(all, err)
		return err
	}
	// The slow store is empty, so the drop has taken effect. If removing the fast store's data
	// fails, mark that data as stale instead.
	err := b.fast.Drop(context.WithoutCancel(ctx))
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range slices.Collect(b.index.IDs) {
		b.settleMoved(id, err == nil)
	}
	if err != nil {
		b.log.Warn("partd: buffer: dropped data could not be removed from the fast store; a later flush will retry", "error", err)
	}
	return nil
}

// blockOperations waits until no operation is running, and makes new operations wait until
// unblockOperations is called.
func (b *Buffer) blockOperations(ctx context.Context, op string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if err := b.checkLocked(ctx, op); err != nil {
			return err
		}
		if !b.isBlocked {
			break
		}
		b.wait(ctx)
	}
	b.isBlocked = true
	for b.activeOps > 0 {
		if err := canceled.Err(ctx); err != nil {
			b.isBlocked = false
			b.wake()
			return bufferError(op, err)
		}
		b.wait(ctx)
	}
	return nil
}

func (b *Buffer) unblockOperations() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.isBlocked = false
	b.index.Compact()
	b.wake()
}
