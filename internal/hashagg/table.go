package hashagg

import (
	"fmt"
	"hash/maphash"
	"math"
	"unsafe"

	"github.com/go-partd/partd/internal/offheap"
	"github.com/go-partd/partd/internal/spill"
)

// Table is a hash table from keys to states. One goroutine uses it.
//
// An entry is, in words: how often its key was asked for with the length of the
// key, in bytes, in the lowest bits; the state's words; and the key.
type Table struct {
	a      *Aggregator
	seed   maphash.Seed
	states States // nil if words are all

	// slots is an open-addressing table with linear probing. A slot is empty (0)
	// or holds the lower half of the key's hash above the number of the entry's
	// first word, plus one.
	slots    []uint64
	slotMem  []byte
	words    []uint64 // entries
	mem      []byte
	used     int // words of entries
	n        int // entries
	resets   int
	stateLen int // words of a state
	budget   int64

	empty   func() error // takes what fills the table, nil: a file
	drained int64        // records that it took, or that passed by
	enough  int          // entries that may show that the table is of no use
	rounds  int          // how often a few are enough
	passing int          // records that are to pass by

	in     proof
	level  int // of the partitions that it spills into
	spill  *spilled
	other  []uint64 // a state to be merged
	sink   uint64   // of what is read ahead, so that it is read
	closed bool
	err    error

	// Where owners is not 0, as many tables own a part of the keys each, and this
	// one, with a number among them, has all there is of its own; its other entries
	// are not to be looked at.
	owners, number int
	// Where that did not succeed, taken is not nil, and those entries that are before
	// the place in it that is their owner's are in the owner's table now.
	taken []int
}

const (
	headWords  = 1
	lenBits    = 20
	maxKey     = 1<<lenBits - 1
	one        = 1 << lenBits // a record, in the head of an entry
	firstSlots = 1 << 8
	levelBits  = 6 // a spill is partitioned by as many bits of the hash
	partitions = 1 << levelBits
	maxLevel   = 5 // 32 bits of the hash are not those that slots use
)

// proof is what is compared between records and groups.
type proof struct {
	records int64
	keySum  uint64
	groups  int64
}

func (p *proof) add(o proof) {
	p.records += o.records
	p.keySum += o.keySum
	p.groups += o.groups
}

func (a *Aggregator) newTable() (*Table, error) {
	t := &Table{a: a, seed: a.seed, enough: math.MaxInt, stateLen: a.opts.Words, other: make([]uint64, a.opts.Words)}
	t.budget = budget(a.share)
	if a.opts.NewStates != nil {
		t.states = a.opts.NewStates()
	}
	var err error
	if t.mem, err = offheap.Allocate(int(t.budget &^ 4095)); err != nil {
		return nil, err
	}
	t.words = unsafe.Slice((*uint64)(unsafe.Pointer(&t.mem[0])), len(t.mem)/8)
	if err := t.makeSlots(firstSlots); err != nil {
		offheap.Release(t.mem)
		return nil, err
	}
	return t, nil
}

// budget is what a table with a share of the memory may take: a part is for the
// buffer of a spill.
func budget(share int64) int64 { return share - int64(bufferSize(share)) }

func (t *Table) makeSlots(n int) error {
	mem, err := offheap.Allocate(8 * n)
	if err != nil {
		return err
	}
	t.slotMem = mem
	t.slots = unsafe.Slice((*uint64)(unsafe.Pointer(&mem[0])), n)
	return nil
}

func (t *Table) free() error {
	offheap.Release(t.mem)
	offheap.Release(t.slotMem)
	t.mem, t.slotMem, t.words, t.slots = nil, nil, nil, nil
	t.err = spill.ErrClosed
	return t.spill.close()
}

// Get counts a record of a key, and returns the state of the key to change: new
// ones are 0. It is valid until the next call.
func (t *Table) Get(key []byte) (state []uint64, isNew bool, err error) {
	hash := maphash.Bytes(t.seed, key)
	at, isNew, err := t.entry(hash, key)
	if err != nil {
		return nil, false, err
	}
	t.words[at] += one
	t.in.records++
	t.in.keySum += hash
	return t.state(at), isNew, nil
}

// entry returns where the entry of a key begins. It makes one if there is none.
func (t *Table) entry(hash uint64, key []byte) (at int, isNew bool, err error) {
	if t.states != nil && t.n > 0 && !t.fits(0, false) { // states have grown
		if err := t.writeOut(); err != nil {
			return 0, false, t.fail(err)
		}
	}
	if at = t.find(hash, key); at < 0 {
		if at, err = t.insert(hash, key); err != nil {
			return 0, false, err
		}
		isNew = true
	}
	return at, isNew, nil
}

// count returns how often the key of an entry was asked for.
func (t *Table) count(at int) uint64 { return t.words[at] >> lenBits }

// addCount adds to that. A sum that is too large shows in the comparison at the
// end, which finds records missing.
func (t *Table) addCount(at int, n uint64) { t.words[at] += n << lenBits }

func (t *Table) state(at int) []uint64 {
	at += headWords
	return t.words[at : at+t.stateLen : at+t.stateLen]
}

// find returns where the entry of a key begins, or -1.
func (t *Table) find(hash uint64, key []byte) int {
	slots := t.slots
	mask := uint32(len(slots) - 1)
	for i := uint32(hash) & mask; int(i) < len(slots); i = (i + 1) & mask {
		slot := slots[i]
		if slot == 0 {
			return -1
		}
		if uint32(slot>>32) == uint32(hash) {
			at := int(uint32(slot)) - 1
			if string(t.key(at)) == string(key) {
				return at
			}
		}
	}
	return -1
}

func (t *Table) key(at int) []byte {
	n := int(t.words[at] & maxKey)
	from := (at + headWords + t.stateLen) * 8
	return t.mem[from : from+n : from+n]
}

// MaxKey returns the length of the longest key that fits, in bytes, also once the
// tables are more.
func (t *Table) MaxKey() int {
	return int(min(maxKey, budget(t.a.least)/16-8*int64(t.size(0)))) &^ 7
}

// size returns how many words the entry of a key of n bytes takes.
func (t *Table) size(n int) int { return headWords + t.stateLen + (n+7)/8 }

// insert makes an entry for a key that find did not find. It writes all entries
// out before, if there is no room.
func (t *Table) insert(hash uint64, key []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	size := t.size(len(key))
	if maxLen := t.MaxKey(); len(key) > maxLen {
		return 0, t.fail(fmt.Errorf("%w: a key of %d bytes, and the most that fit are %d (more memory, or fewer threads, make that up to %d)", ErrTooLarge, len(key), maxLen, maxKey&^7))
	}
	grow := t.mustGrow()
	// A larger table would be of no use.
	futile := t.n >= t.enough && int64(t.n) >= (t.in.records-t.drained)*9/10
	if futile || !t.fits(size, grow) {
		if t.n == 0 {
			return 0, t.fail(fmt.Errorf("%w: it does not even hold one", ErrTooLarge))
		}
		if futile {
			t.pass()
		}
		if err := t.writeOut(); err != nil {
			return 0, t.fail(err)
		}
		grow = false
	}
	if grow {
		if err := t.growSlots(); err != nil {
			return 0, t.fail(err)
		}
	}
	at := t.used
	t.used += size
	t.n++
	t.words[at] = uint64(len(key))
	clear(t.words[at+headWords : at+headWords+t.stateLen])
	copy(t.mem[(at+headWords+t.stateLen)*8:], key)
	t.place(hash, at)
	return at, nil
}

func (t *Table) fail(err error) error {
	t.err = err
	return t.a.Fail(err)
}

// mustGrow reports whether one more entry needs more slots.
func (t *Table) mustGrow() bool { return (t.n+1)*2 > len(t.slots) }

// fits reports whether an entry of so many words fits, if the slots are doubled or
// not. While they are, the old ones are there too.
func (t *Table) fits(size int, grow bool) bool {
	slots := len(t.slots)
	if grow {
		slots *= 3
	}
	total := int64(t.used+size+slots) * 8
	if t.states != nil {
		total += t.states.Memory()
	}
	return total <= t.budget && t.used+size <= min(len(t.words), 1<<32-2)
}

func (t *Table) place(hash uint64, at int) {
	mask := uint32(len(t.slots) - 1)
	i := uint32(hash) & mask
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = hash<<32 | uint64(at+1)
}

func (t *Table) growSlots() error {
	old, oldMem := t.slots, t.slotMem
	if err := t.makeSlots(2 * len(old)); err != nil {
		return err
	}
	for _, slot := range old {
		if slot != 0 {
			t.place(slot>>32, int(uint32(slot))-1)
		}
	}
	offheap.Release(oldMem)
	return nil
}

func (t *Table) reset() {
	clear(t.slots)
	t.used, t.n = 0, 0
	t.resets++
	if t.states != nil {
		t.states.Reset()
	}
}

// Close ends the use of a table. What it holds stays.
func (t *Table) Close() error {
	if t.closed {
		return nil
	}
	t.closed = true
	a := t.a
	a.Mu.Lock()
	defer a.Mu.Unlock()
	a.Writers--
	a.idle = append(a.idle, t)
	a.stats.Records += t.in.records
	a.stats.KeySum += t.in.keySum
	t.in = proof{}
	err := t.err
	if err == nil {
		t.err = fmt.Errorf("the table: %w", spill.ErrClosed)
	}
	return err
}

// States returns what NewStates made for the table.
func (t *Table) States() States { return t.states }
