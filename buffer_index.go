package partd

import (
	"errors"
	"hash/maphash"
	"math/bits"

	"github.com/go-partd/partd/internal/base/keymap"
)

// bufferIndex holds each key that has data in the fast store or a running operation.
type bufferIndex struct {
	keymap.Map[bufferKey]
	seed  maphash.Seed
	slab  keymap.Slab // long keys
	bytes int64       // sum of the keys' sizes
}

// bufferKey is the state of a key that has data in the fast store or is in use. Operations
// that pin a key share it; an operation that holds a key uses it exclusively.
type bufferKey struct {
	size       int64 // bytes in the fast store
	staleBytes int64 // length of the stale prefix of those bytes, which was already moved or replaced
	// ticket is the ticket of the operation that has waited longest for the key, or 0. Only
	// operations with this ticket or an older one may use the key next, so no operation waits
	// forever.
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

// isIdle reports whether a key can be flushed without waiting for an operation.
func (k *bufferKey) isIdle() bool { return k.size > 0 && k.state == 0 && k.ticket == 0 }

// older reports whether ticket a was issued before b. Tickets wrap around.
func older(a, b uint32) bool { return int32(a-b) < 0 }

func (x *bufferIndex) find(key string) keymap.ID { return x.Find(keymap.Hash(x.seed, key), key) }

// forget removes a key from the index if the fast store has no data for it and no operation
// uses or waits for it. mu must be held.
func (x *bufferIndex) forget(id keymap.ID, k *bufferKey) {
	if *k == (bufferKey{}) {
		x.Delete(id)
	}
}

// settleMoved records that a key's data in the fast store is stale or, if deleted is set, gone.
// mu must be held.
func (x *bufferIndex) settleMoved(id keymap.ID, deleted bool) {
	k := x.Val(id)
	k.staleBytes = k.size
	k.state &^= doubtBit
	if deleted {
		x.bytes -= k.size
		k.size, k.staleBytes = 0, 0
	}
	x.forget(id, k)
}

// buffered returns the keys with data in the fast store, except those in doubt (see doubtBit). It
// also returns an error if any key is in doubt. mu must be held.
func (x *bufferIndex) buffered(op string) (keys []string, doubtErr error) {
	for id := range x.IDs {
		k := x.Val(id)
		switch {
		case k.isDoubtful():
			doubtErr = inDoubt(op, string(x.Key(id)))
		case k.size > 0:
			keys = append(keys, string(x.Key(id)))
		}
	}
	return keys, doubtErr
}

// keysLargerThan returns up to 64 keys with more than size bytes. mu must be held.
func (x *bufferIndex) keysLargerThan(size int64) []string {
	const maxKeys = 64
	var keys []string
	for id := range x.IDs {
		if k := x.Val(id); k.size > size && !k.isDoubtful() {
			keys = append(keys, string(x.Key(id)))
			if len(keys) == maxKeys {
				break
			}
		}
	}
	return keys
}

// hasDoubtfulKey reports whether any key is in doubt (see doubtBit). mu must be held.
func (x *bufferIndex) hasDoubtfulKey() bool {
	for id := range x.IDs {
		if x.Val(id).isDoubtful() {
			return true
		}
	}
	return false
}

// largestIdle returns idle keys with at least the given number of bytes in total or, if there are
// too few, all idle keys. It prefers large keys, but not strictly. mu must be held.
func (x *bufferIndex) largestIdle(atLeast int64) []keymap.ID {
	const steps = 4 // size classes for each power of two
	class := func(size int64) int {
		n := bits.Len64(uint64(size))
		return n*steps + int(uint64(size)<<(64-n)>>61&(steps-1))
	}
	var sums [65 * steps]int64
	for id := range x.IDs {
		if k := x.Val(id); k.isIdle() {
			sums[class(k.size)] += k.size
		}
	}
	threshold := len(sums) - 1
	for sum := int64(0); threshold > 0; threshold-- {
		sum += sums[threshold]
		if sum >= atLeast {
			break
		}
	}
	var ids []keymap.ID
	lastClassBytes := int64(0)
	for id := range x.IDs {
		k := x.Val(id)
		c := class(k.size)
		if !k.isIdle() || c < threshold {
			continue
		}
		if c == threshold {
			if lastClassBytes >= atLeast {
				continue
			}
			lastClassBytes += k.size
		}
		ids = append(ids, id)
	}
	return ids
}

var errInDoubt = errors.New("it is unknown whether the slow store has all of this key's data, because a flush of the buffer failed: set, delete or drop the key")

func inDoubt(op, key string) error {
	return &Error{Op: op, Key: key, HasKey: true, Path: bufferName, Err: errInDoubt}
}

// bufferName is the Path of errors, because a Buffer has no path.
const bufferName = "Buffer"

func bufferError(op string, err error) error { return &Error{Op: op, Path: bufferName, Err: err} }

// unchangedError returns the error for an operation that changed nothing because a flush failed
// with err. The operation can be retried safely, so the returned error never wraps
// ErrUnknownOutcome, even if err does.
func unchangedError(op string, err error) error {
	if errors.Is(err, ErrUnknownOutcome) {
		err = errors.New(err.Error())
	}
	return bufferError(op, err)
}
