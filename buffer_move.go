package partd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-partd/partd/internal/base/canceled"
)

// bufferMover moves keys' data from the fast store to the slow one.
type bufferMover struct {
	pins       *bufferPins
	fast, slow Partd
	moveSize   int         // maximum size of one append to the slow store, in bytes
	scratch    chan []byte // holds the spare buffer for moves
}

// maxMoveKeys is the maximum number of keys in one append to the slow store. It is limited because
// each key needs memory for its bookkeeping.
const maxMoveKeys = 4096

// nextMoveLen returns how many keys, counted from the first, fit into one append to the slow store.
// The result is at least 1.
func (m *bufferMover) nextMoveLen(keys []string) int {
	m.pins.mu.Lock()
	defer m.pins.mu.Unlock()
	total := int64(0)
	for i, key := range keys {
		if id := m.pins.index.find(key); id != 0 {
			total += m.pins.index.Val(id).size + int64(len(key))
		}
		if i == maxMoveKeys || i > 0 && total > int64(m.moveSize) {
			return i
		}
	}
	return len(keys)
}

func (m *bufferMover) moveKeys(ctx context.Context, op string, keys []string) error {
	for len(keys) > 0 {
		n := m.nextMoveLen(keys)
		held, err := m.holdMoved(ctx, op, keys[:n], true)
		if err != nil {
			return err
		}
		m.pins.release(held)
		keys = keys[n:]
	}
	return nil
}

// holdMoved is like hold, but also moves the keys' buffered data to the slow store.
func (m *bufferMover) holdMoved(ctx context.Context, op string, keys []string, allowDoubt bool) ([]pinnedKey, error) {
	held, err := m.pins.hold(ctx, op, keys, allowDoubt)
	if err != nil {
		return nil, err
	}
	abandoned, err := m.move(ctx, held)
	if err == nil {
		return held, nil
	}
	if !abandoned {
		m.pins.release(held)
	}
	return nil, unchangedError(op, fmt.Errorf("moving buffered data to the slow store: %w", err))
}

// move appends the buffered data of held keys to the slow store and deletes it from the fast store.
// It moves all data of a key in one append. Otherwise, a reader of the slow store, or a restart
// after a crash, could see only a part of an Append to the Buffer.
//
// The append is not canceled with ctx, because then its outcome could be unknown. If ctx ends,
// move returns abandoned = true, continues in the background and then releases the keys.
func (m *bufferMover) move(ctx context.Context, held []pinnedKey) (abandoned bool, err error) {
	if ctx.Done() == nil {
		return false, m.moveNow(ctx, held)
	}
	done := make(chan error, 1)
	go func() { done <- m.moveNow(context.WithoutCancel(ctx), held) }()
	select {
	case err := <-done:
		return false, err
	case <-ctx.Done():
		go func() {
			<-done
			m.pins.release(held)
		}()
		return true, canceled.Err(ctx)
	}
}

func (m *bufferMover) moveNow(ctx context.Context, held []pinnedKey) error {
	// Reuse the buffer, because as garbage it could double the size of the heap.
	var buf []byte
	select {
	case buf = <-m.scratch:
	default:
	}
	defer func() {
		select {
		case m.scratch <- buf:
		default:
		}
	}()
	var entries []Entry
	held = slices.DeleteFunc(slices.Clone(held), func(p pinnedKey) bool { return p.repeated || p.size == 0 })
	for start := 0; start < len(held); {
		end, total := start, int64(0)
		for end < len(held) && (end == start || total+held[end].size-held[end].staleBytes <= int64(m.moveSize)) {
			total += held[end].size - held[end].staleBytes
			end++
		}
		bunch := held[start:end]
		var err error
		entries, buf, err = m.read(ctx, entries[:0], buf[:0], total, bunch)
		if err != nil {
			return err
		}
		if err := m.moveEntries(ctx, bunch, entries); err != nil {
			return err
		}
		if err := m.discard(ctx, bunch); err != nil {
			return err
		}
		start = end
	}
	return nil
}

// read appends one entry per key to entries, with the key's data to move. total is the size of this
// data in bytes. If the fast store is a Dict, read copies the data into buf and returns buf, which
// may have grown.
func (m *bufferMover) read(ctx context.Context, entries []Entry, buf []byte, total int64, held []pinnedKey) ([]Entry, []byte, error) {
	if d, ok := m.fast.(*Dict); ok {
		buf = slices.Grow(buf, int(total))
		for _, p := range held {
			start := len(buf)
			buf, _ = d.appendRange(buf, p.key, p.staleBytes, p.size-p.staleBytes)
			entries = append(entries, Entry{p.key, buf[start:]})
		}
		return entries, buf, nil
	}
	keys := make([]string, len(held))
	for i, p := range held {
		keys[i] = p.key
	}
	values, err := m.fast.Get(ctx, keys...)
	if err != nil {
		return nil, buf, fmt.Errorf("reading buffered data from the fast store: %w", err)
	}
	for i, p := range held {
		entries = append(entries, Entry{p.key, values[i][p.staleBytes:]})
	}
	return entries, buf, nil
}

func (m *bufferMover) moveEntries(ctx context.Context, held []pinnedKey, entries []Entry) error {
	if err := m.slow.Append(ctx, entries...); err != nil {
		m.markDoubtfulIfUnknown(held, err)
		return err
	}
	m.pins.mu.Lock()
	defer m.pins.mu.Unlock()
	for i, p := range held {
		m.pins.index.Val(p.id).staleBytes += int64(len(entries[i].Value))
	}
	return nil
}

// discard deletes the data of held keys from the fast store, after the data was moved or replaced.
// If the deletion fails, discard marks the data as stale, and a later flush retries.
func (m *bufferMover) discard(ctx context.Context, held []pinnedKey) error {
	var keys []string
	m.pins.mu.Lock()
	for _, p := range held {
		if m.pins.index.Val(p.id).size > 0 {
			keys = append(keys, p.key)
		}
	}
	m.pins.mu.Unlock()
	var err error
	if len(keys) > 0 {
		err = Delete(context.WithoutCancel(ctx), m.fast, keys...)
		if err != nil {
			err = fmt.Errorf("deleting moved or replaced data from the fast store: %w", err)
		}
	}
	m.pins.mu.Lock()
	defer m.pins.mu.Unlock()
	for _, p := range held {
		m.pins.index.settleMoved(p.id, err == nil)
	}
	return err
}

// markDoubtfulIfUnknown handles an error from the slow store. If err wraps ErrUnknownOutcome, it
// sets doubtBit for the keys that still have data to move.
func (m *bufferMover) markDoubtfulIfUnknown(held []pinnedKey, err error) {
	if !errors.Is(err, ErrUnknownOutcome) {
		return
	}
	m.pins.mu.Lock()
	defer m.pins.mu.Unlock()
	for _, p := range held {
		if k := m.pins.index.Val(p.id); k.size > k.staleBytes {
			k.state |= doubtBit
		}
	}
}
