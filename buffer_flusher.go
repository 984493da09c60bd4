package partd

import (
	"context"
	"log/slog"

	"github.com/go-partd/partd/internal/base/keymap"
)

// bufferFlusher moves keys to the slow store in the background. bufferGate.mu guards its fields.
type bufferFlusher struct {
	pins        *bufferPins
	mover       *bufferMover
	budget      *bufferBudget
	log         *slog.Logger
	hasHeavyKey bool  // some key should move because of its size
	isFlushing  bool  // a background flush is running
	failures    int   // background flushes that failed
	err         error // error from the last failed background flush
}

// start starts a background flush unless one is running. mu must be held.
func (f *bufferFlusher) start() {
	if !f.isFlushing && !f.pins.closed {
		f.isFlushing = true
		go f.run()
	}
}

// run flushes overlarge keys, then the largest keys until half of the budget is free.
func (f *bufferFlusher) run() {
	index := &f.pins.index
	var err error
	for err == nil {
		f.pins.mu.Lock()
		excess := f.budget.excess()
		if excess <= 0 && !f.hasHeavyKey || f.pins.isClosing {
			f.isFlushing = false
			f.pins.wake()
			f.pins.mu.Unlock()
			return
		}
		heavy := f.hasHeavyKey
		f.hasHeavyKey = false
		var ids []keymap.ID
		var keys []string
		if heavy {
			keys = index.keysLargerThan(int64(f.mover.moveSize / 2))
		}
		if excess > 0 {
			ids = index.largestIdle(excess)
			if len(ids) == 0 && len(keys) == 0 {
				// All keys are in use: choose some, and let moveKeys wait for them.
				keys = index.keysLargerThan(0)
				switch {
				case len(keys) > 0:
				case index.hasDoubtfulKey():
					err = errInDoubt
				default:
					// Nothing is left to flush. The operations still running will wake the Appends
					// waiting for space.
					f.isFlushing = false
					f.pins.mu.Unlock()
					return
				}
			}
		}
		f.pins.mu.Unlock()
		if err == nil {
			err = f.mover.moveKeys(context.Background(), "flush", keys)
		}
		if err == nil {
			err = f.moveIdle(ids)
		}
	}
	f.pins.mu.Lock()
	defer f.pins.mu.Unlock()
	f.isFlushing = false
	if !f.pins.isClosing { // otherwise, Close moves the data
		f.log.Warn("partd: buffer: a background flush failed; it will be retried", "error", err)
		f.failures++
		f.err = err
	}
	f.pins.wake()
}

// moveIdle moves idle keys to the slow store, about moveSize bytes at a time. It skips keys that
// are no longer idle. If an ID now belongs to another key, moveIdle moves that key, which does no
// harm.
func (f *bufferFlusher) moveIdle(ids []keymap.ID) error {
	ctx := context.Background()
	index := &f.pins.index
	var held []pinnedKey
	for len(ids) > 0 {
		held = held[:0]
		f.pins.mu.Lock()
		for f.pins.isBlocked && !f.pins.closed {
			f.pins.wait(ctx)
		}
		if f.pins.closed {
			f.pins.mu.Unlock()
			return nil
		}
		total := int64(0)
		for len(ids) > 0 && len(held) < maxMoveKeys && (len(held) == 0 || total < int64(f.mover.moveSize)) {
			id := ids[0]
			if index.Exists(id) {
				if k := index.Val(id); k.isIdle() {
					size := k.size + int64(len(index.Key(id)))
					if total > 0 && total+size > int64(f.mover.moveSize) {
						break
					}
					k.state |= heldBit
					total += size
					held = append(held, pinnedKey{id: id, key: string(index.Key(id)), size: k.size, staleBytes: k.staleBytes})
				}
			}
			ids = ids[1:]
		}
		f.pins.beginOp()
		f.pins.mu.Unlock()
		_, err := f.mover.move(ctx, held)
		f.pins.release(held)
		if err != nil {
			return err
		}
	}
	return nil
}
