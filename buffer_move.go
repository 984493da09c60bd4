package partd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/keymap"
)

// holdMoved is like hold, but also moves the keys' buffered data to the slow store.
func (b *Buffer) holdMoved(ctx context.Context, op string, keys []string, allowDoubt bool) ([]bufferPart, error) {
	held, err := b.hold(ctx, op, keys, allowDoubt)
	if err != nil {
		return nil, err
	}
	abandoned, err := b.move(ctx, held)
	if err == nil {
		return held, nil
	}
	if !abandoned {
		b.release(held)
	}
	return nil, unchangedError(op, fmt.Errorf("moving buffered data to the slow store: %w", err))
}

// move appends the buffered data of held keys to the slow store and deletes it from the fast store.
// It moves all data of a key in one append. Otherwise, a reader of the slow store, or a restart
// after a crash, could see only a part of an Append to the Buffer.
//
// The append is not canceled with ctx, because then its outcome could be unknown. If ctx ends,
// move returns abandoned = true, continues in the background, and then releases the keys.
func (b *Buffer) move(ctx context.Context, held []bufferPart) (abandoned bool, err error) {
	if ctx.Done() == nil {
		return false, b.moveNow(ctx, held)
	}
	done := make(chan error, 1)
	go func() { done <- b.moveNow(context.WithoutCancel(ctx), held) }()
	select {
	case err := <-done:
		return false, err
	case <-ctx.Done():
		go func() {
			<-done
			b.release(held)
		}()
		return true, canceled.Err(ctx)
	}
}

func (b *Buffer) moveNow(ctx context.Context, held []bufferPart) error {
	// Reuse the buffer, because as garbage it could double the size of the heap.
	var buf []byte
	select {
	case buf = <-b.scratch:
	default:
	}
	defer func() {
		select {
		case b.scratch <- buf:
		default:
		}
	}()
	var entries []Entry
	held = slices.DeleteFunc(slices.Clone(held), func(p bufferPart) bool { return p.repeated || p.size == 0 })
	for start := 0; start < len(held); {
		end, total := start, int64(0)
		for end < len(held) && (end == start || total+held[end].size-held[end].moved <= int64(b.moveSize)) {
			total += held[end].size - held[end].moved
			end++
		}
		bunch := held[start:end]
		var err error
		if entries, buf, err = b.read(ctx, entries[:0], buf[:0], total, bunch); err != nil {
			return err
		}
		if err := b.moveEntries(ctx, bunch, entries); err != nil {
			return err
		}
		if err := b.discard(ctx, bunch); err != nil {
			return err
		}
		start = end
	}
	return nil
}

// read appends one entry per key to entries, with the key's data to move. All entries together have
// total bytes. If the fast store is a Dict, read copies the data into buf, and returns buf, which
// may have grown.
func (b *Buffer) read(ctx context.Context, entries []Entry, buf []byte, total int64, parts []bufferPart) ([]Entry, []byte, error) {
	if d, ok := b.fast.(*Dict); ok {
		buf = slices.Grow(buf, int(total))
		for _, p := range parts {
			start := len(buf)
			buf, _ = d.appendRange(buf, p.key, p.moved, p.size-p.moved)
			entries = append(entries, Entry{p.key, buf[start:]})
		}
		return entries, buf, nil
	}
	keys := make([]string, len(parts))
	for i, p := range parts {
		keys[i] = p.key
	}
	values, err := b.fast.Get(ctx, keys...)
	if err != nil {
		return nil, buf, fmt.Errorf("reading buffered data from the fast store: %w", err)
	}
	for i, p := range parts {
		entries = append(entries, Entry{p.key, values[i][p.moved:]})
	}
	return entries, buf, nil
}

func (b *Buffer) moveEntries(ctx context.Context, parts []bufferPart, entries []Entry) error {
	if err := b.slow.Append(ctx, entries...); err != nil {
		b.markDoubtfulIfUnknown(parts, err)
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, p := range parts {
		b.index.Val(p.id).moved += int64(len(entries[i].Value))
	}
	return nil
}

// discard deletes the data of held keys from the fast store, after the data was moved or replaced.
// If the deletion fails, discard marks the data as stale, and a later flush retries.
func (b *Buffer) discard(ctx context.Context, held []bufferPart) error {
	var keys []string
	b.mu.Lock()
	for _, p := range held {
		if b.index.Val(p.id).size > 0 {
			keys = append(keys, p.key)
		}
	}
	b.mu.Unlock()
	var err error
	if len(keys) > 0 {
		if err = Delete(context.WithoutCancel(ctx), b.fast, keys...); err != nil {
			err = fmt.Errorf("deleting moved or replaced data from the fast store: %w", err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range held {
		b.settleMoved(p.id, err == nil)
	}
	return err
}

// settleMoved records that a key's data in the fast store is stale or, if deleted is set, gone.
// mu must be held.
func (b *Buffer) settleMoved(id keymap.ID, deleted bool) {
	k := b.index.Val(id)
	k.moved = k.size
	k.state &^= doubtBit
	if deleted {
		b.bytes -= k.size
		k.size, k.moved = 0, 0
	}
	b.forget(id, k)
}

// markDoubtfulIfUnknown handles an error of the slow store. If err wraps ErrUnknownOutcome, it sets
// doubtBit for the keys that still have data to move.
func (b *Buffer) markDoubtfulIfUnknown(parts []bufferPart, err error) {
	if !errors.Is(err, ErrUnknownOutcome) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range parts {
		if k := b.index.Val(p.id); k.size > k.moved {
			k.state |= doubtBit
		}
	}
}
