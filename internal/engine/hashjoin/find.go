package hashjoin

import (
	"fmt"
	"sync/atomic"

	"github.com/go-partd/partd/internal/base/ledger"
)

// BatchSize is the maximum number of keys in a call to [Finder.Find].
const BatchSize = 64

// Finder looks up keys in a table, after [Table.Index]. Each goroutine needs its own.
type Finder struct {
	*Table
	hashes    [BatchSize]uint64
	slots     [BatchSize]uint64 // first slot of each search
	positions [BatchSize]int
	sink      uint64 // sum of prefetched bytes, computed so that the compiler keeps the reads
}

// readAhead sets f.hashes and f.slots for keys. It prefetches the entry of each slot whose stored hash
// bits equal those of the key's hash. The reads do not depend on each other, so the processor does
// them at the same time.
func (f *Finder) readAhead(keys [][]byte) {
	for i, key := range keys {
		f.hashes[i] = f.hash(key)
		f.slots[i] = atomic.LoadUint64(&f.index[f.homeSlot(f.hashes[i])])
	}
	for i := range keys {
		if f.slots[i]>>32 == f.hashes[i]>>32 {
			f.prefetch(f.slots[i])
		}
	}
}

func (f *Finder) prefetch(slot uint64) {
	if slot != 0 {
		entry := f.entryAt(int(uint32(slot)))
		_, _, n := splitEntry(entry)
		f.sink += uint64(entry[n-1])
	}
}

func (f *Finder) insert(p *piece) {
	keys := make([][]byte, 0, BatchSize)
	for pos := 0; pos < p.used; {
		keys = keys[:0]
		for len(keys) < BatchSize && pos < p.used {
			key, _, n := splitEntry(p.mem[pos:])
			f.positions[len(keys)] = p.position + pos/wordBytes
			keys = append(keys, key)
			pos += roundUp(n)
		}
		f.readAhead(keys)
		for i, key := range keys {
			f.insertKey(key, f.hashes[i], f.positions[i])
		}
	}
}

func (f *Finder) insertKey(key []byte, hash uint64, position int) {
	for i := f.homeSlot(hash); ; i = f.nextSlot(i) {
		slot := atomic.LoadUint64(&f.index[i])
		if slot == 0 {
			if atomic.CompareAndSwapUint64(&f.index[i], 0, hash>>32<<32|uint64(position)) {
				return
			}
			slot = atomic.LoadUint64(&f.index[i]) // another goroutine has filled the slot
		}
		if !f.slotHasKey(slot, hash, key) {
			continue
		}
		head, newHead := headOf(f.entryAt(int(uint32(slot)))), headOf(f.entryAt(position))
		for {
			old := atomic.LoadUint64(head)
			atomic.StoreUint64(newHead, uint64(uint32(old)))
			if atomic.CompareAndSwapUint64(head, old, old>>32<<32+oneEntry|uint64(position)) {
				return
			}
		}
	}
}

// Find returns the position of each key's first record, or 0 if the table does not have the key. It
// accepts up to BatchSize keys. The result is valid until the next call.
func (f *Finder) Find(keys [][]byte) []int {
	t := f.Table
	f.readAhead(keys)
	for i, key := range keys {
		f.positions[i] = 0
		slot := f.slots[i]
		for index := t.homeSlot(f.hashes[i]); slot != 0; slot = t.index[index] {
			if t.slotHasKey(slot, f.hashes[i], key) {
				f.positions[i] = int(uint32(slot))
				break
			}
			index = t.nextSlot(index)
		}
	}
	return f.positions[:len(keys)]
}

// MarkMatched marks the key at a position as matched and returns its number of records.
func (t *Table) MarkMatched(position int) int {
	head := headOf(t.entryAt(position))
	word := atomic.LoadUint64(head)
	if word&matchedBit == 0 {
		atomic.OrUint64(head, matchedBit)
	}
	return int(word &^ matchedBit >> 32)
}

// Each calls handle with each record of the key at a position.
func (t *Table) Each(position int, handle func(record []byte) error) error {
	remaining := int(atomic.LoadUint64(headOf(t.entryAt(position))) &^ matchedBit >> 32)
	for ; position != 0; remaining-- {
		entry := t.entryAt(position)
		_, record, _ := splitEntry(entry)
		if err := handle(record); err != nil {
			return err
		}
		position = int(uint32(atomic.LoadUint64(headOf(entry))))
	}
	if remaining != 0 {
		return errListLength
	}
	return nil
}

var errListLength = fmt.Errorf("%w: the number of records in a key's list differs from the number added", ledger.ErrNotVerified)

// EachInPart calls handle for each record in a part of the table and returns the count of these
// records. Parts are numbered from 0 to parts-1. matched reports whether MarkMatched was called for
// the record's key.
func (t *Table) EachInPart(part, parts int, handle func(record []byte, matched bool) error) (count ledger.Count, err error) {
	f := Finder{Table: t}
	index := t.index[len(t.index)*part/parts : len(t.index)*(part+1)/parts]
	for i, slot := range index {
		if i%BatchSize == 0 {
			for _, slot := range index[i:min(i+BatchSize, len(index))] {
				f.prefetch(slot)
			}
		}
		if slot == 0 {
			continue
		}
		first := int(uint32(slot))
		word, n := atomic.LoadUint64(headOf(t.entryAt(first))), 0
		for position := first; position != 0; n++ {
			entry := t.entryAt(position)
			_, record, end := splitEntry(entry)
			count.AddRecord(entry[wordBytes:end])
			if err := handle(record, word&matchedBit != 0); err != nil {
				return count, err
			}
			position = int(uint32(atomic.LoadUint64(headOf(entry))))
		}
		if n != int(word&^matchedBit>>32) {
			return count, errListLength
		}
	}
	return count, nil
}
