package partd

import (
	"context"
	"sync"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/keymap"
	"github.com/go-partd/partd/internal/base/storeerror"
)

// bufferGate lets operations of a Buffer begin, or makes them wait.
type bufferGate struct {
	// mu guards the fields below and those of the Buffer's other parts. It is never held during a
	// call to a store, except to MemoryUsed. No other lock in the Buffer is taken while mu is held.
	mu        sync.Mutex
	isOpen    bool // NewBuffer created the Buffer
	activeOps int
	changed   chan struct{} // closed and replaced to wake waiting operations
	waiters   int           // number of operations waiting for changed
	isBlocked bool          // Drop or Close runs alone, so no other operation may begin
	isClosing bool          // only Close may begin
	closed    bool
}

// checkOpen returns an error if an operation may not begin.
func (g *bufferGate) checkOpen(ctx context.Context, op string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refusal(ctx, op)
}

// opClose is the operation name of Close. refusal lets only Close begin while the Buffer is
// closing.
const opClose = "close"

// refusal returns the reason why an operation may not begin, or nil. mu must be held.
func (g *bufferGate) refusal(ctx context.Context, op string) error {
	if err := canceled.Err(ctx); err != nil {
		return bufferError(op, err)
	}
	if !g.isOpen {
		return bufferError(op, storeerror.ErrNotOpened)
	}
	if g.closed || g.isClosing && op != opClose {
		return bufferError(op, ErrClosed)
	}
	return nil
}

// wait waits for a call to wake, or until ctx is done. mu must be held. wait releases mu while it
// waits, so the caller must then look up all keys in the index again.
func (g *bufferGate) wait(ctx context.Context) {
	g.waiters++
	changed := g.changed
	g.mu.Unlock()
	_ = canceled.Wait(ctx, changed) // the caller checks ctx again
	g.mu.Lock()
	g.waiters--
}

// wake wakes all waiting operations, which then check again whether they can continue. mu must be
// held.
func (g *bufferGate) wake() {
	if g.waiters > 0 {
		close(g.changed)
		g.changed = make(chan struct{})
	}
}

// beginOp counts a running operation that pins or holds keys. mu must be held. The caller must
// call endOp at the end of the operation.
func (g *bufferGate) beginOp() { g.activeOps++ }

func (g *bufferGate) setClosing(closing bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.isClosing = closing
	g.wake()
}

// blockOperations waits until no operation is running and makes new operations wait until
// unblockOperations is called.
func (g *bufferGate) blockOperations(ctx context.Context, op string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		if err := g.refusal(ctx, op); err != nil {
			return err
		}
		if !g.isBlocked {
			break
		}
		g.wait(ctx)
	}
	g.isBlocked = true
	for g.activeOps > 0 {
		if err := canceled.Err(ctx); err != nil {
			g.isBlocked = false
			g.wake()
			return bufferError(op, err)
		}
		g.wait(ctx)
	}
	return nil
}

// bufferPins records which operations use which keys. Operations pin or hold keys.
type bufferPins struct {
	bufferGate
	index   bufferIndex
	tickets uint32 // newest ticket given to a waiting operation
}

// pinnedKey is a pinned or held key, with its sizes when it was pinned.
type pinnedKey struct {
	id               keymap.ID // 0 if the key is pinned but not in the fast store
	key              string
	size, staleBytes int64
	repeated         bool // the key occurs earlier in the list of held keys
}

// bufferWait records the keys that an operation is waiting for.
type bufferWait struct {
	ticket     uint32
	queuedKeys []string // keys for which this operation set its ticket; an older ticket may have replaced it since
}

// enqueue queues the operation for a key that is not available yet, by setting the key's ticket. mu must be held.
func (p *bufferPins) enqueue(w *bufferWait, id keymap.ID, key string) {
	if w.ticket == 0 {
		p.tickets++
		if p.tickets == 0 { // 0 means no ticket
			p.tickets = 1
		}
		w.ticket = p.tickets
	}
	if k := p.index.Val(id); k.ticket == 0 || older(w.ticket, k.ticket) {
		k.ticket = w.ticket
		w.queuedKeys = append(w.queuedKeys, key)
	}
}

// dequeue removes an operation's ticket from keys, after the operation has acquired the keys or has
// stopped waiting for them. mu must be held.
func (p *bufferPins) dequeue(w *bufferWait) {
	for _, key := range w.queuedKeys {
		id := p.index.find(key)
		if id == 0 {
			continue
		}
		if k := p.index.Val(id); k.ticket == w.ticket {
			k.ticket = 0
			p.index.forget(id, k)
		}
	}
	if len(w.queuedKeys) > 0 {
		w.queuedKeys = w.queuedKeys[:0]
		p.wake()
	}
}

// pin prevents the keys' data from moving to the slow store until release. A key without data
// in the fast store needs no pin.
func (p *bufferPins) pin(ctx context.Context, op string, keys []string) ([]pinnedKey, error) {
	return p.acquire(ctx, op, keys, false, false)
}

// hold waits until no operation uses the keys. Then it gives the caller exclusive use of them until
// release. If a key is in doubt (see doubtBit), hold returns an error unless allowDoubt is set.
func (p *bufferPins) hold(ctx context.Context, op string, keys []string, allowDoubt bool) ([]pinnedKey, error) {
	return p.acquire(ctx, op, keys, true, allowDoubt)
}

// acquire pins keys, or holds them if exclusive is set. It acquires all keys in one step, so
// that two operations cannot deadlock.
func (p *bufferPins) acquire(ctx context.Context, op string, keys []string, exclusive, allowDoubt bool) ([]pinnedKey, error) {
	pinned := make([]pinnedKey, len(keys))
	var w bufferWait
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { p.dequeue(&w) }()
	for free := false; !free; {
		if err := p.refusal(ctx, op); err != nil {
			return nil, err
		}
		free = !p.isBlocked
		for i := 0; i < len(keys) && !p.isBlocked; i++ {
			id := p.index.find(keys[i])
			pinned[i] = pinnedKey{id: id, key: keys[i]}
			if id == 0 {
				continue
			}
			k := p.index.Val(id)
			if k.isDoubtful() && !allowDoubt {
				return nil, inDoubt(op, keys[i])
			}
			if !k.isAvailable(w.ticket, exclusive) {
				p.enqueue(&w, id, keys[i])
				free = false
			}
		}
		if !free {
			p.wait(ctx)
		}
	}
	for i := range pinned {
		key := &pinned[i]
		if exclusive && key.id == 0 {
			hash := keymap.Hash(p.index.seed, key.key)
			key.id = p.index.Find(hash, key.key)
			if key.id == 0 { // if keys repeat, an earlier iteration may have inserted this one
				key.id = p.index.Insert(hash, key.key)
			}
		}
		if key.id == 0 {
			continue
		}
		k := p.index.Val(key.id)
		key.size, key.staleBytes, key.repeated = k.size, k.staleBytes, k.isHeld()
		if exclusive {
			k.state |= heldBit
		} else {
			k.state++
		}
	}
	p.beginOp()
	return pinned, nil
}

func (p *bufferPins) release(pinned []pinnedKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range pinned {
		if key.id == 0 || key.repeated {
			continue
		}
		k := p.index.Val(key.id)
		if k.isHeld() {
			k.state &^= heldBit
		} else {
			k.state--
		}
		p.index.forget(key.id, k)
	}
	p.endOp()
}

func (p *bufferPins) endOp() {
	p.activeOps--
	if p.activeOps == 0 {
		p.index.Compact() // Compact changes IDs, but no operation uses one now
	}
	p.wake()
}

func (p *bufferPins) unblockOperations() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isBlocked = false
	p.index.Compact()
	p.wake()
}
