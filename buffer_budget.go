package partd

import (
	"hash/maphash"
	"math"

	"github.com/go-partd/partd/internal/base/keymap"
)

// bufferBudget counts the memory of the fast store, the index and the running Appends.
type bufferBudget struct {
	index         *bufferIndex
	fast          Partd
	memory        int64 // budget of the fast store and the index, in bytes
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
		if need += perKey; need > limit {
			break
		}
		if n := len(entries[i].Key); n > keymap.InlineKey {
			need += 4 * int64(n) // the index and the fast store each store the key, rounded up
		}
	}
	return need
}
