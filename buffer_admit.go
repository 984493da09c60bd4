package partd

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"

	"github.com/go-partd/partd/internal/base/keymap"
)

// perKey is the maximum number of bytes that the index and the fast store need for a new key
// besides its value.
const perKey = 200

// bufferBatch holds the hash and the index ID of each entry of one Append.
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

// needs returns an upper bound of the memory that a batch uses, in bytes. If the bound exceeds
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
		if need += perKey; need > limit {
			break
		}
		if n := len(entries[i].Key); n > keymap.InlineKey {
			need += 4 * int64(n) // the index and the fast store each store the key, rounded up
		}
	}
	return need
}

// used returns the bytes that count against the budget. mu must be held.
func (b *Buffer) used() int64 {
	fast := b.bytes + int64(b.index.Len())*128
	if m, ok := As[MemoryUser](b.fast); ok {
		fast = m.MemoryUsed()
	}
	return fast + b.index.Footprint() + b.strings.Used() + b.admittedBytes
}

// overcommitted reports whether the fast store and the index have allocated more memory than
// the budget, although they use less. That happens when a few large keys follow many small
// ones. Only emptying the fast store frees the unused memory.
func (b *Buffer) overcommitted() bool {
	d, ok := b.fast.(*Dict)
	return ok && d.footprint()+b.index.Footprint()+b.strings.Footprint() > b.memory/8*9+minOvercommit
}

// minOvercommit is the memory that even an empty Dict may have allocated, in bytes.
const minOvercommit = 2 << 20

// excess returns the number of bytes to flush. mu must be held.
func (b *Buffer) excess() int64 {
	if b.index.Len() == 0 {
		return 0
	}
	if b.overcommitted() {
		return math.MaxInt64
	}
	return b.used() - b.memory/2
}

// admit waits until there is room for need bytes of a batch, and until no other operation has
// exclusive use of one of the batch's keys. Then admit pins the keys, so that they do not move. It
// counts the entries as if the fast store already had them. If admit returns nil, the caller must
// call settle.
func (b *Buffer) admit(ctx context.Context, entries []Entry, batch *bufferBatch, need int64) error {
	var w bufferWait
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() { b.dequeue(&w) }()
	failures := b.failures
	for {
		if err := b.checkLocked(ctx, "append"); err != nil {
			return err
		}
		full := b.index.Len() > 0 && (b.used()+need > b.memory || b.overcommitted())
		if !full && !b.isBlocked {
			free, large, err := b.pinBatch(entries, batch, &w)
			if err != nil {
				return err
			}
			if free {
				b.beginOp()
				b.admittedBytes += need
				return nil
			}
			full = large
		}
		if full {
			// Leave the queues of these keys: the flush that makes room may need
			// the keys, and this Append and the flush would wait for each other.
			b.dequeue(&w)
			if b.failures != failures {
				return unchangedError("append", fmt.Errorf("the memory budget is full, and flushing failed: %w", b.flushErr))
			}
			b.startFlush()
		}
		b.wait(ctx)
	}
}

// pinBatch pins the keys of a batch, counts its bytes, and returns free = true. There are two
// exceptions. If another operation has or awaits exclusive use of a key, pinBatch only queues the
// batch for all such keys, and returns false. If a key is too large to grow, pinBatch only sets
// hasHeavyKey, so that a flush moves the key, and returns large = true. mu must be held.
func (b *Buffer) pinBatch(entries []Entry, batch *bufferBatch, w *bufferWait) (free, large bool, err error) {
	free = true
	for i := range entries {
		batch.ids[i] = 0
		if len(entries[i].Value) == 0 {
			continue
		}
		id := b.index.Find(batch.hashes[i], entries[i].Key)
		batch.ids[i] = id
		if id == 0 {
			continue
		}
		k := b.index.Val(id)
		// A key moves to the slow store in one append, so its size must be limited.
		tooLarge := k.size > int64(b.moveSize/2) && k.size+int64(len(entries[i].Value)) > int64(b.moveSize)
		if k.ticket == 0 && k.state&^pinsMask == 0 && !tooLarge {
			continue // the common case
		}
		switch {
		case k.isDoubtful():
			return false, false, inDoubt("append", entries[i].Key)
		case tooLarge && !k.isHeld(): // if the key is held, it may already be moving
			b.hasHeavyKey, large = true, true
		case !k.isAvailable(w.ticket, false):
			free = false
		}
	}
	if large {
		return false, true, nil
	}
	if !free {
		for i, id := range batch.ids {
			if id != 0 && !b.index.Val(id).isAvailable(w.ticket, false) {
				b.enqueue(w, id, entries[i].Key)
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
			// An earlier entry of the batch may have inserted the key.
			if batch.ids[i] = b.index.Find(batch.hashes[i], e.Key); batch.ids[i] == 0 {
				batch.ids[i] = b.index.Insert(batch.hashes[i], e.Key)
			}
		}
		k := b.index.Val(batch.ids[i])
		k.state++
		k.size += int64(len(e.Value))
		b.bytes += int64(len(e.Value))
		batch.exceedsMove = batch.exceedsMove || k.size > 2*int64(b.moveSize)
	}
	return true, false, nil
}

// settle ends an Append for which admit reserved need bytes. It unpins the keys. If err means that
// the fast store does not have the entries, settle no longer counts their bytes.
func (b *Buffer) settle(entries []Entry, batch *bufferBatch, need int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	failed := err != nil && !errors.Is(err, ErrUnknownOutcome)
	for i, id := range batch.ids {
		if id == 0 {
			continue
		}
		k := b.index.Val(id)
		k.state--
		if failed {
			k.size -= int64(len(entries[i].Value))
			b.bytes -= int64(len(entries[i].Value))
		}
		if k.size > int64(b.moveSize/2) {
			b.hasHeavyKey = true
		}
		b.forget(id, k)
	}
	b.admittedBytes -= need
	if b.hasHeavyKey || b.used() > b.memory/4*3 {
		b.startFlush()
	}
	b.endOp()
}
