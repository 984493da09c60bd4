package partd

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/go-partd/partd/internal/base/canceled"
)

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
