package partd

import (
	"context"
	"errors"
	"math/bits"

	"github.com/go-partd/partd/internal/keymap"
)

// Flush moves everything that was acknowledged before the call to the slow
// store, and flushes that.
func (b *Buffer) Flush(ctx context.Context) error {
	if err := b.flush(ctx, "flush"); err != nil {
		return err
	}
	if err := Flush(ctx, b.slow); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// startFlush begins to flush in the background unless that is under way. The
// caller holds mu.
func (b *Buffer) startFlush() {
	if !b.running && !b.closed {
		b.running = true
		go b.background()
	}
}

// background flushes the largest keys until half of the budget is free.
func (b *Buffer) background() {
	b.flushing <- struct{}{}
	defer func() { <-b.flushing }()
	var err error
	for err == nil {
		b.mu.Lock()
		excess := b.used() - b.memory/2
		ids := b.largest(excess)
		if excess <= 0 || b.closed {
			b.running = false
			b.wake()
			b.mu.Unlock()
			return
		}
		if len(ids) == 0 && !b.anyDoubt() {
			// Every key is in use. Whoever stops using one wakes those who wait
			// for room, and they start the next flush.
			b.running = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		if len(ids) == 0 {
			err = errInDoubt
		} else {
			err = b.flushKeys(context.Background(), ids)
		}
	}
	b.log.Warn("partd: buffer: a flush in the background failed; it will be tried again", "error", err)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running = false
	b.failures++
	b.failure = err
	b.wake()
}

// flush moves all keys to the slow store that have something to move.
func (b *Buffer) flush(ctx context.Context, op string) error {
	if err := b.check(ctx, op); err != nil {
		return err
	}
	select {
	case b.flushing <- struct{}{}:
	case <-ctx.Done():
		return &Error{Op: op, Err: ctx.Err()}
	}
	defer func() { <-b.flushing }()
	b.mu.Lock()
	var keys []string
	var doubt error
	for id := range b.index.IDs {
		k := b.index.Val(id)
		switch {
		case k.doubt:
			doubt = inDoubt(op, string(b.index.Key(id)))
		case k.size > 0:
			keys = append(keys, string(b.index.Key(id)))
		}
	}
	b.mu.Unlock()
	// Held in bunches: a key in use is waited for.
	for len(keys) > 0 {
		n := min(len(keys), 4096)
		held, err := b.hold(ctx, op, keys[:n], true)
		if err != nil {
			return err
		}
		err = b.move(ctx, held)
		b.release(held)
		if err != nil {
			return clean(op, err)
		}
		keys = keys[n:]
	}
	return doubt
}

// largest returns keys that hold at least so many bytes together and that
// nobody needs, such that no key left out is much larger (by more than a
// quarter) than one that is returned. The caller holds mu.
func (b *Buffer) largest(atLeast int64) []keymap.ID {
	const steps = 4 // size classes for each power of two
	class := func(size int64) int {
		n := bits.Len64(uint64(size))
		return n*steps + int(uint64(size)<<(64-n)>>61&(steps-1))
	}
	free := func(k *bufferKey) bool {
		return k.size > 0 && k.pins == 0 && !k.held && k.want == 0 && !k.doubt
	}
	var sums [65 * steps]int64
	for id := range b.index.IDs {
		if k := b.index.Val(id); free(k) {
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
	inLast := int64(0)
	for id := range b.index.IDs {
		k := b.index.Val(id)
		c := class(k.size)
		if !free(k) || c < threshold {
			continue
		}
		if c == threshold {
			// Of the last class no more than asked for.
			if inLast >= atLeast {
				continue
			}
			inLast += k.size
		}
		ids = append(ids, id)
	}
	return ids
}

// anyDoubt tells whether a key is in doubt. The caller holds mu.
func (b *Buffer) anyDoubt() bool {
	for id := range b.index.IDs {
		if b.index.Val(id).doubt {
			return true
		}
	}
	return false
}

// flushKeys moves keys to the slow store, as many at a time as one step takes.
// Keys that somebody needs by now are left out.
func (b *Buffer) flushKeys(ctx context.Context, ids []keymap.ID) error {
	var held []bufferPart
	for len(ids) > 0 {
		held = held[:0]
		b.mu.Lock()
		for b.dropping {
			b.wait(ctx)
		}
		if b.closed || b.index.Len() == 0 {
			b.mu.Unlock()
			return nil
		}
		total := int64(0)
		for len(ids) > 0 && (len(held) == 0 || total < int64(b.step)) {
			id := ids[0]
			ids = ids[1:]
			if !b.index.Exists(id) {
				continue
			}
			k := b.index.Val(id)
			if k.size == 0 || k.pins > 0 || k.held || k.want > 0 || k.doubt {
				continue
			}
			k.held = true
			total += k.size - k.moved
			held = append(held, bufferPart{id: id, key: string(b.index.Key(id)), size: k.size, moved: k.moved})
		}
		b.active++
		b.mu.Unlock()
		err := b.move(ctx, held)
		b.release(held)
		if err != nil {
			return err
		}
	}
	return nil
}
