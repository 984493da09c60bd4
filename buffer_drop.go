package partd

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/go-partd/partd/internal/canceled"
)

// Close flushes the buffer and closes both stores. If the flush fails, the
// error says so, nothing is closed, and what was not moved is still there: call
// Close again once the cause is gone, or Drop to give the data up. Keys of which
// nobody knows whether the slow store has them are reported and do not hinder
// closing. Whatever begins while Close runs fails with [ErrClosed].
func (b *Buffer) Close() error {
	ctx := context.Background()
	if b.check(ctx, opClose) != nil {
		return nil // closed already
	}
	b.setClosing(true)
	var flushErr error
	for closed := false; !closed; {
		flushErr = b.flush(ctx, opClose)
		if flushErr != nil && !errors.Is(flushErr, errInDoubt) {
			b.setClosing(false)
			return flushErr
		}
		if b.exclude(ctx, opClose) != nil {
			return nil // by another Close
		}
		b.mu.Lock()
		// Not yet, if an Append that was under way ended after the flush.
		closed = len(b.keysOver(0)) == 0
		b.closed = closed
		b.mu.Unlock()
		b.include()
	}
	errs := []error{flushErr}
	for _, store := range []Partd{b.fast, b.slow} {
		if c, ok := store.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// setClosing lets nothing but Close begin from now on, or everything again.
func (b *Buffer) setClosing(closing bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closing = closing
	b.wake()
}

// Drop removes every key from both stores.
func (b *Buffer) Drop(ctx context.Context) error {
	if err := b.exclude(ctx, "drop"); err != nil {
		return err
	}
	defer b.include()
	if err := b.slow.Drop(ctx); err != nil {
		b.mu.Lock()
		var all []bufferPart
		for id := range b.index.IDs {
			all = append(all, bufferPart{id: id})
		}
		b.mu.Unlock()
		b.doubtIfUnknown(all, err)
		return err
	}
	// The slow store is empty: from here on the drop is done, and what the fast
	// one holds counts no more, even if it cannot be removed now.
	err := b.fast.Drop(context.WithoutCancel(ctx))
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range slices.Collect(b.index.IDs) {
		b.settleMoved(id, err == nil)
	}
	if err != nil {
		b.log.Warn("partd: buffer: dropped keys stay in the fast store for now", "error", err)
	}
	return nil
}

// exclude waits until no operation is under way, and lets none begin until
// include.
func (b *Buffer) exclude(ctx context.Context, op string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if err := b.checkLocked(ctx, op); err != nil {
			return err
		}
		if !b.dropping {
			break
		}
		b.wait(ctx)
	}
	b.dropping = true
	for b.active > 0 {
		if err := canceled.Err(ctx); err != nil {
			b.dropping = false
			b.wake()
			return bufferError(op, err)
		}
		b.wait(ctx)
	}
	return nil
}

func (b *Buffer) include() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropping = false
	b.index.Compact()
	b.wake()
}
