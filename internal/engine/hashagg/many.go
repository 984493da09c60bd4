package hashagg

import "hash/maphash"

const batchSize = 64 // number of keys that are looked up together

// GetMany does the same as Get for each of the keys, in order. It calls handle with the index of
// each key and its state, which is valid until handle returns. GetMany is faster than Get because
// the processor fetches several entries at the same time.
func (t *Table) GetMany(keys [][]byte, handle func(i int, state []uint64, isNew bool)) error {
	var hashes [batchSize]uint64
	var candidates [batchSize]uint32
	for from := 0; from < len(keys); from += batchSize {
		group := keys[from:min(from+batchSize, len(keys))]
		for i, key := range group {
			hashes[i] = maphash.Bytes(t.seed, key)
		}
		t.prefetchSlots(hashes[:len(group)], &candidates)
		resets := t.resets
		for i, key := range group {
			pos, isNew := int(candidates[i])-1, false
			if pos < 0 || resets != t.resets || t.states != nil || string(t.key(pos)) != string(key) {
				var err error
				pos, isNew, err = t.entry(hashes[i], key)
				if err != nil {
					return err
				}
			}
			t.words[pos] += recordIncrement
			t.inputTotals.Records++
			t.inputTotals.KeySum += hashes[i]
			handle(from+i, t.state(pos), isNew)
		}
	}
	return nil
}

// GetStates is like GetMany, but calls handle with the states of several consecutive keys, beginning
// with keys[first]. The states are valid until handle returns. The aggregator must not have
// NewStates.
func (t *Table) GetStates(keys [][]byte, handle func(first int, states [][]uint64)) error {
	var hashes [batchSize]uint64
	var candidates [batchSize]uint32
	for from := 0; from < len(keys); from += batchSize {
		group := keys[from:min(from+batchSize, len(keys))]
		for i, key := range group {
			hashes[i] = maphash.Bytes(t.seed, key)
		}
		t.prefetchSlots(hashes[:len(group)], &candidates)
		states := t.stateBatch[:0]
		handled := 0 // number of keys in the group whose states handle has received
		resets := t.resets
		for i, key := range group {
			pos := int(candidates[i]) - 1
			if pos < 0 || resets != t.resets || string(t.key(pos)) != string(key) {
				pos = t.find(hashes[i], key)
				if pos < 0 {
					// A new key can empty the table, so the earlier states must be complete.
					if len(states) > 0 {
						handle(from+handled, states)
						states, handled = states[:0], i
					}
					var err error
					pos, err = t.insert(hashes[i], key)
					if err != nil {
						return err
					}
				}
			}
			t.words[pos] += recordIncrement
			t.inputTotals.Records++
			t.inputTotals.KeySum += hashes[i]
			states = append(states, t.state(pos))
		}
		handle(from+handled, states)
	}
	return nil
}

const lineWords = 8 // number of words in a cache line

// prefetchSlots finds the first slot with each hash and prefetches its entry up to the beginning
// of the key. It sets candidates to the entries' positions plus one, or to 0. The reads do not
// depend on each other, so the processor does them at the same time.
func (t *Table) prefetchSlots(hashes []uint64, candidates *[batchSize]uint32) {
	var slots [batchSize]uint64
	mask := uint32(len(t.slots) - 1)
	for i, h := range hashes {
		slots[i] = t.slots[uint32(h)&mask]
	}
	var sum uint64
	for i, h := range hashes {
		slot := slots[i]
		for pos := uint32(h); slot != 0 && uint32(slot>>32) != uint32(h); {
			pos++
			slot = t.slots[pos&mask]
		}
		candidates[i] = uint32(slot)
		if slot != 0 {
			pos := int(uint32(slot)) - 1
			key := pos + headWords + t.stateLen
			for ; pos < key; pos += lineWords {
				sum += t.words[pos]
			}
			sum += t.words[min(key, len(t.words)-1)] // if the key is empty, key can be len(t.words)
		}
	}
	t.sink = sum
}
