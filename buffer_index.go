package partd

import (
	"context"
	"errors"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/keymap"
	"github.com/go-partd/partd/internal/base/storeerror"
)

// bufferKey is the state of a key that has data in the fast store or is in use. Operations
// that pin a key share it; an operation that holds a key uses it exclusively.
type bufferKey struct {
	size  int64 // bytes in the fast store
	moved int64 // length of the stale prefix of the bytes in the fast store, which was already moved or replaced
	// ticket is the ticket of the operation that has waited longest for the key, or 0. Only
	// operations with this or an older ticket may use the key next, so no operation waits forever.
	ticket uint32
	state  uint32 // number of running operations that pin the key, and the bits below
}

const (
	heldBit  = 1 << 31 // one operation has exclusive use of the key
	doubtBit = 1 << 30 // the slow store could not tell whether it appended some of the key's bytes
	pinsMask = doubtBit - 1
)

func (k *bufferKey) isHeld() bool     { return k.state&heldBit != 0 }
func (k *bufferKey) isDoubtful() bool { return k.state&doubtBit != 0 }

// isAvailable reports whether the operation with the given ticket may use the key now. ticket
// is 0 if the operation has not waited yet.
func (k *bufferKey) isAvailable(ticket uint32, exclusive bool) bool {
	if k.isHeld() || exclusive && k.state&pinsMask != 0 {
		return false
	}
	return k.ticket == 0 || ticket != 0 && !older(k.ticket, ticket)
}

// older reports whether ticket a was given before b. Tickets wrap around.
func older(a, b uint32) bool { return int32(a-b) < 0 }

// bufferPart is a pinned or held key, with its sizes at the time of the pin.
type bufferPart struct {
	id          keymap.ID // 0 if the key is pinned but not in the fast store
	key         string
	size, moved int64
	repeated    bool // the key occurs earlier in the list of held keys
}

// bufferWait records the keys that an operation waits for.
type bufferWait struct {
	ticket     uint32
	queuedKeys []string // keys for which this operation set its ticket; an older ticket may have replaced it since
}

// enqueue puts the operation's ticket on a key that is not available yet. mu must be held.
func (b *Buffer) enqueue(w *bufferWait, id keymap.ID, key string) {
	if w.ticket == 0 {
		if b.tickets++; b.tickets == 0 { // 0 means no ticket
			b.tickets = 1
		}
		w.ticket = b.tickets
	}
	if k := b.index.Val(id); k.ticket == 0 || older(w.ticket, k.ticket) {
		k.ticket = w.ticket
		w.queuedKeys = append(w.queuedKeys, key)
	}
}

// dequeue removes an operation's ticket from keys, after the operation has acquired the keys or has
// stopped waiting for them. mu must be held.
func (b *Buffer) dequeue(w *bufferWait) {
	for _, key := range w.queuedKeys {
		id := b.find(key)
		if id == 0 {
			continue
		}
		if k := b.index.Val(id); k.ticket == w.ticket {
			k.ticket = 0
			b.forget(id, k)
		}
	}
	if len(w.queuedKeys) > 0 {
		w.queuedKeys = w.queuedKeys[:0]
		b.wake()
	}
}

func (b *Buffer) find(key string) keymap.ID { return b.index.Find(keymap.Hash(b.seed, key), key) }

func (b *Buffer) check(ctx context.Context, op string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.checkLocked(ctx, op)
}

// opClose is the operation name of Close. checkLocked lets only Close begin while the Buffer is
// closing.
const opClose = "close"

func (b *Buffer) checkLocked(ctx context.Context, op string) error {
	if err := canceled.Err(ctx); err != nil {
		return bufferError(op, err)
	}
	if b.fast == nil {
		return bufferError(op, storeerror.ErrNotOpened)
	}
	if b.closed || b.isClosing && op != opClose {
		return bufferError(op, ErrClosed)
	}
	return nil
}

// wait waits for a call of wake, or until ctx is done. mu must be held. wait releases mu while
// it waits, so the caller must then look up all keys in the index again.
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

// wake wakes all waiting operations, which then check again whether they can continue. mu must be
// held.
func (b *Buffer) wake() {
	if b.waiters > 0 {
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

// beginOp counts a running operation that pins or holds keys. mu must be held. The caller must
// call endOp at the end of the operation.
func (b *Buffer) beginOp() { b.activeOps++ }

func (b *Buffer) endOp() {
	b.activeOps--
	if b.activeOps == 0 {
		b.index.Compact() // Compact changes IDs, but no operation uses one now
	}
	b.wake()
}

// forget removes a key from the index if the fast store has no data for it and no operation
// uses or waits for it. mu must be held.
func (b *Buffer) forget(id keymap.ID, k *bufferKey) {
	if *k == (bufferKey{}) {
		b.index.Delete(id)
	}
}

// pin prevents the keys' data from moving to the slow store until release. A key without data
// in the fast store needs no pin.
func (b *Buffer) pin(ctx context.Context, op string, keys []string) ([]bufferPart, error) {
	return b.acquire(ctx, op, keys, false, false)
}

// hold waits until no operation uses the keys, and gives the caller exclusive use of them until
// release. If a key is in doubt (see doubtBit), hold returns an error unless allowDoubt is set.
func (b *Buffer) hold(ctx context.Context, op string, keys []string, allowDoubt bool) ([]bufferPart, error) {
	return b.acquire(ctx, op, keys, true, allowDoubt)
}

// acquire pins keys, or holds them if exclusive is set. It acquires all keys in one step, so
// that two operations cannot deadlock.
func (b *Buffer) acquire(ctx context.Context, op string, keys []string, exclusive, allowDoubt bool) ([]bufferPart, error) {
	parts := make([]bufferPart, len(keys))
	var w bufferWait
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() { b.dequeue(&w) }()
	for free := false; !free; {
		if err := b.checkLocked(ctx, op); err != nil {
			return nil, err
		}
		free = !b.isBlocked
		for i := 0; i < len(keys) && !b.isBlocked; i++ {
			id := b.find(keys[i])
			parts[i] = bufferPart{id: id, key: keys[i]}
			if id == 0 {
				continue
			}
			k := b.index.Val(id)
			if k.isDoubtful() && !allowDoubt {
				return nil, inDoubt(op, keys[i])
			}
			if !k.isAvailable(w.ticket, exclusive) {
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
		if exclusive && p.id == 0 {
			hash := keymap.Hash(b.seed, p.key)
			if p.id = b.index.Find(hash, p.key); p.id == 0 { // it is not 0 if this loop inserted the key before, because keys repeat
				p.id = b.index.Insert(hash, p.key)
			}
		}
		if p.id == 0 {
			continue
		}
		k := b.index.Val(p.id)
		p.size, p.moved, p.repeated = k.size, k.moved, k.isHeld()
		if exclusive {
			k.state |= heldBit
		} else {
			k.state++
		}
	}
	b.beginOp()
	return parts, nil
}

func (b *Buffer) release(parts []bufferPart) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range parts {
		if p.id == 0 || p.repeated {
			continue
		}
		k := b.index.Val(p.id)
		if k.isHeld() {
			k.state &^= heldBit
		} else {
			k.state--
		}
		b.forget(p.id, k)
	}
	b.endOp()
}

var errInDoubt = errors.New("it is unknown whether the slow store has all data of this key, because a flush of the buffer failed: set, delete or drop the key")

func inDoubt(op, key string) error {
	return &Error{Op: op, Key: key, HasKey: true, Path: bufferName, Err: errInDoubt}
}

// bufferName is the Path of errors, because a Buffer has no path.
const bufferName = "Buffer"

func bufferError(op string, err error) error { return &Error{Op: op, Path: bufferName, Err: err} }

// unchangedError returns the error of an operation that changed nothing, because a flush failed
// with err. The operation can be retried safely, so the returned error never wraps
// ErrUnknownOutcome, even if err does.
func unchangedError(op string, err error) error {
	if errors.Is(err, ErrUnknownOutcome) {
		err = errors.New(err.Error())
	}
	return bufferError(op, err)
}
