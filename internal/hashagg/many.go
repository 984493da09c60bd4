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
	var likely [ahead]uint32
	for from := 0; from < len(keys); from += ahead {
		some := keys[from:min(from+ahead, len(keys))]
		for i, key := range some {
			hashes[i] = maphash.Bytes(t.seed, key)
		}
		t.prefetch(hashes[:len(some)], &likely)
		resets := t.resets
		for i, key := range some {
			at, isNew := int(likely[i])-1, false
			if at < 0 || resets != t.resets || t.states != nil || string(t.key(at)) != string(key) {
				var err error
				if at, isNew, err = t.entry(hashes[i], key); err != nil {
					return err
				}
			}
			t.words[at] += one
			t.in.records++
			t.in.keySum += hashes[i]
			use(from+i, t.state(at), isNew)
		}
	}
	return nil
}

// line is how many words the processor reads together.
const line = 8

// prefetch reads the first slot for each of the hashes, and the entry that the hash leads
// to, up to the beginning of its key: likely is where it begins, plus one, or 0. The reads
// of one do not depend on those of another.
func (t *Table) prefetch(hashes []uint64, likely *[ahead]uint32) {
	var slots [ahead]uint64
	mask := uint32(len(t.slots) - 1)
	for i, h := range hashes {
		slots[i] = t.slots[uint32(h)&mask]
	}
	var sum uint64
	for i, h := range hashes {
		slot := slots[i]
		for at := uint32(h); slot != 0 && uint32(slot>>32) != uint32(h); {
			at++
			slot = t.slots[at&mask]
		}
		likely[i] = uint32(slot)
		if slot != 0 {
			at := int(uint32(slot)) - 1
			key := at + headWords + t.stateLen
			for ; at < key; at += line {
				sum += t.words[at]
			}
			sum += t.words[min(key, len(t.words)-1)] // an empty key has none
		}
	}
	t.sink = sum
}
