package partd

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"

	"github.com/go-partd/partd/internal/base/keymap"
)

// bufferAdmission admits Appends when there is room for them.
type bufferAdmission struct {
	pins     *bufferPins
	budget   *bufferBudget
	flusher  *bufferFlusher
	moveSize int // bufferMover.moveSize
}

// admit waits until the budget has room for the batch, which takes need bytes, and until no other
// operation has exclusive use of one of the batch's keys. Then admit pins the keys, so that they do
// not move. It counts the entries as if the fast store already had them. If admit returns nil, the
// caller must call settle.
func (a *bufferAdmission) admit(ctx context.Context, entries []Entry, batch *bufferBatch, need int64) error {
	var w bufferWait
	a.pins.mu.Lock()
	defer a.pins.mu.Unlock()
	defer func() { a.pins.dequeue(&w) }()
	failures := a.flusher.failures
	for {
		if err := a.pins.refusal(ctx, "append"); err != nil {
			return err
		}
		full := a.pins.index.Len() > 0 && (a.budget.used()+need > a.budget.memory || a.budget.overcommitted())
		if !full && !a.pins.isBlocked {
			free, large, err := a.pinBatch(entries, batch, &w)
			if err != nil {
				return err
			}
			if free {
				a.pins.beginOp()
				a.budget.admittedBytes += need
				return nil
			}
			full = large
		}
		if full {
			// Leave the queues of these keys. The flush that makes room may need the keys. Otherwise,
			// it and this Append would wait for each other.
			a.pins.dequeue(&w)
			if a.flusher.failures != failures {
				return unchangedError("append", fmt.Errorf("the memory budget is full, and flushing failed: %w", a.flusher.err))
			}
			a.flusher.start()
		}
		a.pins.wait(ctx)
	}
}

// pinBatch pins the keys in a batch, counts its bytes, and returns free = true. There are two
// exceptions. If another operation has or awaits exclusive use of a key, pinBatch only queues the
// batch for all such keys and returns false. If a key is too large to grow, pinBatch only sets
// hasHeavyKey, so that a flush moves the key. It then returns large = true. mu must be held.
func (a *bufferAdmission) pinBatch(entries []Entry, batch *bufferBatch, w *bufferWait) (free, large bool, err error) {
	index := &a.pins.index
	free = true
	for i := range entries {
		batch.ids[i] = 0
		if len(entries[i].Value) == 0 {
			continue
		}
		id := index.Find(batch.hashes[i], entries[i].Key)
		batch.ids[i] = id
		if id == 0 {
			continue
		}
		k := index.Val(id)
		// A key moves to the slow store in one append, so its size must be limited.
		tooLarge := k.size > int64(a.moveSize/2) && k.size+int64(len(entries[i].Value)) > int64(a.moveSize)
		if k.ticket == 0 && k.state&^pinsMask == 0 && !tooLarge {
			continue // the common case
		}
		switch {
		case k.isDoubtful():
			return false, false, inDoubt("append", entries[i].Key)
		case tooLarge && !k.isHeld(): // if the key is held, it may already be moving
			a.flusher.hasHeavyKey, large = true, true
		case !k.isAvailable(w.ticket, false):
			free = false
		}
	}
	if large {
		return false, true, nil
	}
	if !free {
		for i, id := range batch.ids {
			if id != 0 && !index.Val(id).isAvailable(w.ticket, false) {
				a.pins.enqueue(w, id, entries[i].Key)
			}
		}
		return false, false, nil
	}
	batch.exceedsMove = false
	for i := range entries {
		e := &entries[i]
		if len(e.Value) == 0 {
			continue
		}
		if batch.ids[i] == 0 {
			// An earlier entry in the batch may have inserted the key.
			batch.ids[i] = index.Find(batch.hashes[i], e.Key)
			if batch.ids[i] == 0 {
				batch.ids[i] = index.Insert(batch.hashes[i], e.Key)
			}
		}
		k := index.Val(batch.ids[i])
		k.state++
		k.size += int64(len(e.Value))
		index.bytes += int64(len(e.Value))
		batch.exceedsMove = batch.exceedsMove || k.size > 2*int64(a.moveSize)
	}
	return true, false, nil
}

// settle ends an Append for which admit reserved need bytes. It unpins the keys. If err means that
// the fast store does not have the entries, settle no longer counts their bytes.
func (a *bufferAdmission) settle(entries []Entry, batch *bufferBatch, need int64, err error) {
	a.pins.mu.Lock()
	defer a.pins.mu.Unlock()
	index := &a.pins.index
	failed := err != nil && !errors.Is(err, ErrUnknownOutcome)
	for i, id := range batch.ids {
		if id == 0 {
			continue
		}
		k := index.Val(id)
		k.state--
		if failed {
			k.size -= int64(len(entries[i].Value))
			index.bytes -= int64(len(entries[i].Value))
		}
		if k.size > int64(a.moveSize/2) {
			a.flusher.hasHeavyKey = true
		}
		index.forget(id, k)
	}
	a.budget.admittedBytes -= need
	if a.flusher.hasHeavyKey || a.budget.used() > a.budget.memory/4*3 {
		a.flusher.start()
	}
	a.pins.endOp()
}

// bufferBudget counts the memory that the fast store, the index and the running Appends use.
type bufferBudget struct {
	index         *bufferIndex
	fast          Partd
	memory        int64 // budget for the fast store and the index, in bytes
	admittedBytes int64 // bytes reserved by running Appends
}

// used returns the bytes that count against the budget. mu must be held.
func (u *bufferBudget) used() int64 {
	fast := u.index.bytes + int64(u.index.Len())*128
	if m, ok := As[MemoryUser](u.fast); ok {
		fast = m.MemoryUsed()
	}
	return fast + u.index.Footprint() + u.index.slab.Used() + u.admittedBytes
}

// overcommitted reports whether the fast store and the index have allocated more memory than
// the budget, although they use less. That happens when a few large keys follow many small
// ones. Only emptying the fast store frees the unused memory.
func (u *bufferBudget) overcommitted() bool {
	d, ok := u.fast.(*Dict)
	return ok && d.footprint()+u.index.Footprint()+u.index.slab.Footprint() > u.memory/8*9+minOvercommit
}

// minOvercommit is the memory that even an empty Dict may have allocated, in bytes.
const minOvercommit = 2 << 20

// excess returns the number of bytes to flush. mu must be held.
func (u *bufferBudget) excess() int64 {
	if u.index.Len() == 0 {
		return 0
	}
	if u.overcommitted() {
		return math.MaxInt64
	}
	return u.used() - u.memory/2
}

// perKey is the maximum number of bytes that the index and the fast store need for a new key
// besides its value.
const perKey = 200

// bufferBatch holds the hash and the index ID of each entry in one Append.
type bufferBatch struct {
	hashes []uint64
	ids    []keymap.ID // 0 for an entry with an empty value

	exceedsMove bool // the batch makes a key too large to move to the slow store in one append
}

func (batch *bufferBatch) hash(seed maphash.Seed, entries []Entry) {
	if cap(batch.hashes) < len(entries) {
		batch.hashes = make([]uint64, len(entries))
		batch.ids = make([]keymap.ID, len(entries))
	}
	batch.hashes = batch.hashes[:len(entries)]
	batch.ids = batch.ids[:len(entries)]
	for i := range entries {
		batch.hashes[i] = keymap.Hash(seed, entries[i].Key)
	}
}

// needs returns an upper bound on the memory that a batch uses, in bytes. If the bound exceeds
// limit, the result can be any number above limit. needs assumes that all keys are new. It detects
// repeated keys only in a large batch; in a small one, it counts them several times.
func (batch *bufferBatch) needs(entries []Entry, valueBytes, limit int64) int64 {
	need := valueBytes
	var seen map[uint64]struct{}
	if need+perKey*int64(len(entries)) > limit/4 {
		seen = map[uint64]struct{}{}
	}
	for i := range entries {
		if seen != nil {
			if _, repeated := seen[batch.hashes[i]]; repeated {
				continue
			}
			seen[batch.hashes[i]] = struct{}{}
		}
		need += perKey
		if need > limit {
			break
		}
		if n := len(entries[i].Key); n > keymap.InlineKey {
			need += 4 * int64(n) // the index and the fast store each store the key, rounded up
		}
	}
	return need
}
