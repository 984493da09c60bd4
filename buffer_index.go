package partd

import (
	"context"
	"errors"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/keymap"
	"github.com/go-partd/partd/internal/storeerror"
)

type bufferKey struct {
	size  int64 // bytes in the fast store
	moved int64 // of these, from the start, bytes that count no more: the slow store has them, or replaced them
	// ticket is that of the longest-waiting operation that wants the key, 0 if
	// none does. Only that one, and those that have waited longer, may have it
	// next, so that none waits for ever.
	ticket uint32
	state  uint32 // how many operations under way have the key pinned, and the bits below
}

const (
	heldBit  = 1 << 31 // an operation has the key for itself
	doubtBit = 1 << 30 // the slow store could not tell whether it took some of the key's bytes
	pinsMask = doubtBit - 1
)

func (k *bufferKey) held() bool  { return k.state&heldBit != 0 }
func (k *bufferKey) doubt() bool { return k.state&doubtBit != 0 }

// open reports whether an operation with this ticket (0: it has not waited yet)
// may have the key, alone or with others.
func (k *bufferKey) open(ticket uint32, alone bool) bool {
	if k.held() || alone && k.state&pinsMask != 0 {
		return false
	}
	return k.ticket == 0 || ticket != 0 && !older(k.ticket, ticket)
}

// older compares tickets, whose numbers begin anew some time.
func older(a, b uint32) bool { return int32(a-b) < 0 }

// bufferPart is a key that an operation has pinned or holds, as it was then.
type bufferPart struct {
	id          keymap.ID // 0: pinned, but not in the fast store
	key         string
	size, moved int64
	again       bool // the same key stands earlier in the list of those held
}

// bufferWait is an operation's place among those that wait.
type bufferWait struct {
	ticket uint32
	marked []string // the keys that may have this ticket
}

// enqueue enters the operation for a key that it cannot have yet.
func (b *Buffer) enqueue(w *bufferWait, id keymap.ID, key string) {
	if w.ticket == 0 {
		if b.tickets++; b.tickets == 0 { // 0 is none
			b.tickets = 1
		}
		w.ticket = b.tickets
	}
	if k := b.index.Val(id); k.ticket == 0 || older(w.ticket, k.ticket) {
		k.ticket = w.ticket
		w.marked = append(w.marked, key)
	}
}

// dequeue takes an operation out of the wait for keys: it has them, gave up, or
// waits for something else.
func (b *Buffer) dequeue(w *bufferWait) {
	for _, key := range w.marked {
		id := b.find(key)
		if id == 0 {
			continue
		}
		if k := b.index.Val(id); k.ticket == w.ticket {
			k.ticket = 0
			b.forget(id, k)
		}
	}
	if len(w.marked) > 0 {
		w.marked = w.marked[:0]
		b.wake()
	}
}

func (b *Buffer) find(key string) keymap.ID { return b.index.Find(keymap.Hash(b.seed, key), key) }

func (b *Buffer) check(ctx context.Context, op string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.checkLocked(ctx, op)
}

// opClose is the operation of Close, which goes on when no other may begin.
const opClose = "close"

func (b *Buffer) checkLocked(ctx context.Context, op string) error {
	if err := canceled.Err(ctx); err != nil {
		return bufferError(op, err)
	}
	if b.fast == nil {
		return bufferError(op, storeerror.ErrNotOpened)
	}
	if b.closed || b.closing && op != opClose {
		return bufferError(op, ErrClosed)
	}
	return nil
}

// wait waits until something changed. The caller holds mu and looks again; what
// it knew of the index may be wrong by then.
func (b *Buffer) wait(ctx context.Context) {
	b.waiters++
	changed := b.changed
	b.mu.Unlock()
	select {
	case <-changed:
	case <-ctx.Done():
	}
	b.mu.Lock()
	b.waiters--
}

// wake lets everyone who waits look again. The caller holds mu.
func (b *Buffer) wake() {
	if b.waiters > 0 {
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

// begin and end enclose every operation that has keys pinned or held. The caller
// holds mu.
func (b *Buffer) begin() { b.active++ }

func (b *Buffer) end() {
	b.active--
	if b.active == 0 {
		b.index.Compact() // nobody knows an ID now
	}
	b.wake()
}

// forget removes a key from the index that has nothing in the fast store and
// that nobody needs.
func (b *Buffer) forget(id keymap.ID, k *bufferKey) {
	if *k == (bufferKey{}) {
		b.index.Delete(id)
	}
}

// pin keeps keys where they are until release. A key that is not in the fast store
// needs no pin: what comes later moves as a whole.
func (b *Buffer) pin(ctx context.Context, op string, keys []string) ([]bufferPart, error) {
	return b.acquire(ctx, op, keys, false, false)
}

// hold waits until nobody needs the keys and takes them for the caller alone, until
// release. A key in doubt is an error unless allowDoubt.
func (b *Buffer) hold(ctx context.Context, op string, keys []string, allowDoubt bool) ([]bufferPart, error) {
	return b.acquire(ctx, op, keys, true, allowDoubt)
}

// acquire pins keys, or holds them if alone is set: all at once, so that two that
// hold keys never wait for each other.
func (b *Buffer) acquire(ctx context.Context, op string, keys []string, alone, allowDoubt bool) ([]bufferPart, error) {
	parts := make([]bufferPart, len(keys))
	var w bufferWait
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() { b.dequeue(&w) }()
	for free := false; !free; {
		if err := b.checkLocked(ctx, op); err != nil {
			return nil, err
		}
		free = !b.dropping
		for i := 0; i < len(keys) && !b.dropping; i++ {
			id := b.find(keys[i])
			parts[i] = bufferPart{id: id, key: keys[i]}
			if id == 0 {
				continue
			}
			k := b.index.Val(id)
			if k.doubt() && !allowDoubt {
				return nil, inDoubt(op, keys[i])
			}
			if !k.open(w.ticket, alone) {
				b.enqueue(&w, id, keys[i])
				free = false
			}
		}
		if !free {
			b.wait(ctx)
		}
	}
	for i := range parts {
		p := &parts[i]
		if alone && p.id == 0 {
			hash := keymap.Hash(b.seed, p.key)
			if p.id = b.index.Find(hash, p.key); p.id == 0 { // it may be given twice
				p.id = b.index.Insert(hash, p.key)
			}
		}
		if p.id == 0 {
			continue
		}
		k := b.index.Val(p.id)
		p.size, p.moved, p.again = k.size, k.moved, k.held()
		if alone {
			k.state |= heldBit
		} else {
			k.state++
		}
	}
	b.begin()
	return parts, nil
}

func (b *Buffer) release(parts []bufferPart) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range parts {
		if p.id == 0 || p.again {
			continue
		}
		k := b.index.Val(p.id)
		if k.held() {
			k.state &^= heldBit
		} else {
			k.state--
		}
		b.forget(p.id, k)
	}
	b.end()
}

var errInDoubt = errors.New("the slow store could not tell whether it took a part of this key when the buffer was flushed: set, delete or drop it")

func inDoubt(op, key string) error {
	return &Error{Op: op, Key: key, HasKey: true, Path: bufferName, Err: errInDoubt}
}

// bufferName is what errors name a Buffer, which has no path.
const bufferName = "Buffer"

func bufferError(op string, err error) error { return &Error{Op: op, Path: bufferName, Err: err} }

// clean returns the error of an operation that changed nothing, because of the
// error of another that may have: it must not look as if a retry could double.
func clean(op string, err error) error {
	if errors.Is(err, ErrUnknownOutcome) {
		err = errors.New(err.Error())
	}
	return bufferError(op, err)
}
