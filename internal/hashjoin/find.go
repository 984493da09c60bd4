package hashjoin

import (
	"fmt"
	"sync/atomic"

	"github.com/go-partd/partd/internal/ledger"
)

// Ahead is how many keys are looked for together, at most.
const Ahead = 64

// Finder looks for keys, for one goroutine, once there is an index.
type Finder struct {
	*Table
	hashes [Ahead]uint64
	slots  [Ahead]uint64 // where the searches begin
	places [Ahead]int
	sink   uint64 // of what is read ahead, so that it is read
}

// readAhead reads the slots where the searches for keys begin, and the entries that
// may be theirs. These reads do not depend on each other, so that the processor waits
// for all of them at once.
func (f *Finder) readAhead(keys [][]byte) {
	for i, key := range keys {
		f.hashes[i] = f.hash(key)
		f.slots[i] = atomic.LoadUint64(&f.index[f.home(f.hashes[i])])
	}
	for i := range keys {
		if f.slots[i]>>32 == f.hashes[i]>>32 {
			f.touch(f.slots[i])
		}
	}
}

// touch reads the entry of a slot that is not empty.
func (f *Finder) touch(slot uint64) {
	if slot != 0 {
		at := f.at(int(uint32(slot)))
		_, _, n := entryOf(at)
		f.sink += uint64(at[n-1])
	}
}

// insert makes the entries of a piece be found.
func (f *Finder) insert(p *piece) {
	keys := make([][]byte, 0, Ahead)
	for at := 0; at < p.used; {
		keys = keys[:0]
		for len(keys) < Ahead && at < p.used {
			key, _, n := entryOf(p.mem[at:])
			f.places[len(keys)] = p.place + at/wordBytes
			keys = append(keys, key)
			at += words(n)
		}
		f.readAhead(keys)
		for i, key := range keys {
			f.insertKey(key, f.hashes[i], f.places[i])
		}
	}
}

func (f *Finder) insertKey(key []byte, hash uint64, place int) {
	for i := f.home(hash); ; i = f.after(i) {
		slot := atomic.LoadUint64(&f.index[i])
		if slot == 0 {
			if atomic.CompareAndSwapUint64(&f.index[i], 0, hash>>32<<32|uint64(place)) {
				return
			}
			slot = atomic.LoadUint64(&f.index[i]) // another came first
		}
		if !f.holds(slot, hash, key) {
			continue
		}
		head, mine := headOf(f.at(int(uint32(slot)))), headOf(f.at(place))
		for {
			old := atomic.LoadUint64(head)
			atomic.StoreUint64(mine, uint64(uint32(old)))
			if atomic.CompareAndSwapUint64(head, old, old>>32<<32+one|uint64(place)) {
				return
			}
		}
	}
}

// Find returns where the first record of each of the keys is, 0 for none, until it is
// called again.
func (f *Finder) Find(keys [][]byte) []int {
	t := f.Table
	f.readAhead(keys)
	for i, key := range keys {
		f.places[i] = 0
		slot := f.slots[i]
		for at := t.home(f.hashes[i]); slot != 0; slot = t.index[at] {
			if t.holds(slot, f.hashes[i], key) {
				f.places[i] = int(uint32(slot))
				break
			}
			at = t.after(at)
		}
	}
	return f.places[:len(keys)]
}

// Found notes that the key was found whose first record is at a place, and returns
// how many records it has.
func (t *Table) Found(place int) int {
	head := headOf(t.at(place))
	word := atomic.LoadUint64(head)
	if word&found == 0 {
		atomic.OrUint64(head, found)
	}
	return int(word &^ found >> 32)
}

// Each calls use with each record of the key whose first one is at a place. That are
// as many as Found returns.
func (t *Table) Each(place int, use func(record []byte) error) error {
	left := int(atomic.LoadUint64(headOf(t.at(place))) &^ found >> 32)
	for ; place != 0; left-- {
		at := t.at(place)
		_, record, _ := entryOf(at)
		if err := use(record); err != nil {
			return err
		}
		place = int(uint32(atomic.LoadUint64(headOf(at))))
	}
	if left != 0 {
		return errList
	}
	return nil
}

var errList = fmt.Errorf("%w: a key has another number of records than its list", ledger.ErrNotVerified)

// All hands over the records of a part of the keys, with whether the key was found,
// and returns their account.
func (t *Table) All(part, parts int, use func(record []byte, found bool) error) (all ledger.Count, err error) {
	f := Finder{Table: t}
	index := t.index[len(t.index)*part/parts : len(t.index)*(part+1)/parts]
	for at, slot := range index {
		if at%Ahead == 0 {
			for _, slot := range index[at:min(at+Ahead, len(index))] {
				f.touch(slot)
			}
		}
		if slot == 0 {
			continue
		}
		first := int(uint32(slot))
		word, n := atomic.LoadUint64(headOf(t.at(first))), 0
		for place := first; place != 0; n++ {
			at := t.at(place)
			_, record, end := entryOf(at)
			all.AddRecord(at[wordBytes:end])
			if err := use(record, word&found != 0); err != nil {
				return all, err
			}
			place = int(uint32(atomic.LoadUint64(headOf(at))))
		}
		if n != int(word&^found>>32) {
			return all, errList
		}
	}
	return all, nil
}
