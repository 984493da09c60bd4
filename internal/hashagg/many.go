package hashagg

import "hash/maphash"

// ahead is how many keys are looked for together.
const ahead = 64

// GetMany does what Get does for each of many keys in order, and calls use with
// the number of the key and its state, which is valid until use returns. It is
// faster where there are many keys: the processor waits for several entries at
// once.
func (t *Table) GetMany(keys [][]byte, use func(i int, state []uint64, isNew bool)) error {
	var hashes [ahead]uint64
	for from := 0; from < len(keys); from += ahead {
		some := keys[from:min(from+ahead, len(keys))]
		for i, key := range some {
			hashes[i] = maphash.Bytes(t.seed, key)
		}
		t.prefetch(hashes[:len(some)])
		for i, key := range some {
			at, isNew, err := t.entry(hashes[i], key)
			if err != nil {
				return err
			}
			t.words[at] += one
			t.in.records++
			t.in.keySum += hashes[i]
			use(from+i, t.state(at), isNew)
		}
	}
	return nil
}

// cached is how many slots stay in the processor's cache anyway.
const cached = 1 << 12

// prefetch reads the first slot and the first entry for each of the hashes. The
// reads do not depend on each other.
func (t *Table) prefetch(hashes []uint64) {
	if len(t.slots) <= cached {
		return
	}
	var slots [ahead]uint64
	mask := uint32(len(t.slots) - 1)
	for i, h := range hashes {
		slots[i] = t.slots[uint32(h)&mask]
	}
	var sum uint64
	for i := range hashes {
		if at := uint32(slots[i]); at != 0 {
			sum += t.words[at-1]
		}
	}
	t.sink = sum
}
