package partd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/keymap"
)

// move appends to the slow store what the fast one holds of keys that the
// caller holds, at most a step at a time, and deletes it from the fast one.
func (b *Buffer) move(ctx context.Context, held []bufferPart) error {
	buf := b.takeScratch()
	defer func() { b.giveScratch(buf) }()
	var entries []Entry
	held = slices.DeleteFunc(slices.Clone(held), func(p bufferPart) bool { return p.again || p.size == 0 })
	for start := 0; start < len(held); {
		var err error
		if left := held[start].size - held[start].moved; left > int64(b.step) {
			if buf, err = b.moveLarge(ctx, buf, &held[start]); err != nil {
				return err
			}
			start++
			continue
		}
		end, total := start, int64(0)
		for end < len(held) && total+held[end].size-held[end].moved <= int64(b.step) {
			total += held[end].size - held[end].moved
			end++
		}
		bunch := held[start:end]
		buf = slices.Grow(buf[:0], int(total))
		if entries, err = b.read(ctx, entries[:0], buf[:0], bunch); err != nil {
			return err
		}
		if err := b.moved(ctx, bunch, entries); err != nil {
			return err
		}
		if err := b.discard(ctx, bunch); err != nil {
			return err
		}
		start = end
	}
	return nil
}

// takeScratch returns memory for what is on its way from one store to the
// other. It is kept between moves, as garbage would let the heap grow to twice
// the budget before it is collected.
func (b *Buffer) takeScratch() []byte {
	select {
	case buf := <-b.scratch:
		return buf
	default:
		return nil
	}
}

func (b *Buffer) giveScratch(buf []byte) {
	select {
	case b.scratch <- buf:
	default:
	}
}

// moveLarge moves a key that is larger than a step. It returns buf, which may
// have grown.
func (b *Buffer) moveLarge(ctx context.Context, buf []byte, p *bufferPart) ([]byte, error) {
	if d, ok := b.fast.(*Dict); ok {
		buf = slices.Grow(buf[:0], b.step)
		for p.moved < p.size {
			buf = d.appendRange(buf[:0], p.key, p.moved, int64(b.step))
			if err := b.moved(ctx, []bufferPart{*p}, []Entry{{p.key, buf}}); err != nil {
				return buf, err
			}
			p.moved += int64(len(buf))
		}
	} else {
		values, err := b.fast.Get(ctx, p.key)
		if err != nil {
			return buf, err
		}
		if err := b.moved(ctx, []bufferPart{*p}, []Entry{{p.key, values[0][p.moved:]}}); err != nil {
			return buf, err
		}
	}
	return buf, b.discard(ctx, []bufferPart{*p})
}

// read appends an entry for each key with what is to be moved of it, in buf
// where the fast store is a Dict.
func (b *Buffer) read(ctx context.Context, entries []Entry, buf []byte, parts []bufferPart) ([]Entry, error) {
	if d, ok := b.fast.(*Dict); ok {
		for _, p := range parts {
			start := len(buf)
			buf = d.appendRange(buf, p.key, p.moved, p.size-p.moved)
			entries = append(entries, Entry{p.key, buf[start:]})
		}
		return entries, nil
	}
	keys := make([]string, len(parts))
	for i, p := range parts {
		keys[i] = p.key
	}
	values, err := b.fast.Get(ctx, keys...)
	if err != nil {
		return nil, fmt.Errorf("reading what the buffer holds: %w", err)
	}
	for i, p := range parts {
		entries = append(entries, Entry{p.key, values[i][p.moved:]})
	}
	return entries, nil
}

// moved appends entries of held keys to the slow store and notes what it took.
func (b *Buffer) moved(ctx context.Context, parts []bufferPart, entries []Entry) error {
	if err := b.slow.Append(ctx, entries...); err != nil {
		b.doubtIfUnknown(parts, err)
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, p := range parts {
		b.index.Val(p.id).moved += int64(len(entries[i].Value))
	}
	return nil
}

// discard removes from the fast store what it holds of keys that the caller
// holds, since it counts no more. Where that fails, it is remembered, and a later
// flush tries again.
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
			err = fmt.Errorf("the slow store has these keys, but the fast one cannot delete them: %w", err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range held {
		b.settleMoved(p.id, err == nil)
	}
	return err
}

// settleMoved notes that nothing of what the fast store holds of a key counts,
// and whether it is gone. The caller holds mu.
func (b *Buffer) settleMoved(id keymap.ID, gone bool) {
	k := b.index.Val(id)
	k.moved, k.doubt = k.size, false
	if gone {
		b.bytes -= k.size
		k.size, k.moved = 0, 0
	}
	b.forget(id, k)
}

// doubtIfUnknown marks the keys of a failed change of the slow store if it may
// have taken effect, and the fast store holds bytes that come after it.
func (b *Buffer) doubtIfUnknown(parts []bufferPart, err error) {
	if !errors.Is(err, ErrUnknownOutcome) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range parts {
		if k := b.index.Val(p.id); k.size > k.moved {
			k.doubt = true
		}
	}
}
