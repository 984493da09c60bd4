package hashagg

import (
	"fmt"
	"hash/maphash"
	"math"
	"unsafe"

	"github.com/go-partd/partd/internal/base/keymap"
	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/engine/spill"
)

// Table is a hash table from keys to states. Only one goroutine may use it.
//
// An entry consists of words. The head word contains the key's record count and, in the lowest
// bits, the key's length in bytes. The words of the state and the key follow.
type Table struct {
	a      *Aggregator
	seed   maphash.Seed
	states States // nil if states consist only of words

	// slots is an open-addressing table (see keymap.InsertSlot). The lower half of a slot is the
	// entry's position (the index of its first word) plus one.
	slots      []uint64
	slotMem    []byte   // memory of slots
	words      []uint64 // entries
	wordMem    []byte   // memory of words
	usedWords  int      // number of words in use
	entryCount int      // number of entries
	resets     int      // number of times that the table was emptied
	stateLen   int      // number of words in a state
	budget     int64    // maximum bytes of entries, slots and states

	drain             func() error // empties the table; set by DrainTo
	recordsOut        int64        // number of input records that were drained or bypassed the table
	bypassAt          int          // number of entries from which new records may bypass the table (see startBypass)
	shortRechecksLeft int          // number of short rechecks before the next long one (see startBypass)
	bypassLeft        int          // number of further records that bypass the table

	inputTotals Totals
	level       int // number of times that the keys were partitioned; at most maxLevel
	spill       *spillFile
	decoded     []uint64            // memory for a decoded state
	stateBatch  [batchSize][]uint64 // memory for the states that GetStates passes on
	sink        uint64              // sum of prefetched words, computed so that the compiler keeps the reads
	closed      bool
	err         error

	// Once the tables have exchanged their entries, one of ownerCount tables owns each key (see
	// ownerOf). This table, the one with index tableIndex, has the complete states of the keys that
	// it owns; its other entries must be ignored. Before the exchange, ownerCount is 0.
	ownerCount, tableIndex int
	// Table i has merged the entries that it owns from before position mergedUpTo[i] of this table. If
	// an exchange runs out of memory, entriesByPartition skips these entries.
	mergedUpTo []int
}

const (
	headWords       = 1
	lenBits         = 20
	maxKeyLen       = 1<<lenBits - 1
	recordIncrement = 1 << lenBits // added to an entry's head for each record
	initialSlots    = 1 << 8
	partitionBits   = 6 // bits of the hash that select a partition
	numPartitions   = 1 << partitionBits
	maxLevel        = 5 // more levels would use the hash bits that slots use
)

// Totals summarizes the input or the output of an aggregator, so that they can be compared.
type Totals struct {
	Groups, Records int64
	KeySum          uint64 // sum of each group's key hash times its record count
}

// Add adds o to t.
func (t *Totals) Add(o Totals) {
	t.Groups += o.Groups
	t.Records += o.Records
	t.KeySum += o.KeySum
}

func (a *Aggregator) newTable() (*Table, error) {
	t := &Table{a: a, seed: a.seed, bypassAt: math.MaxInt, stateLen: a.opts.Words, decoded: make([]uint64, a.opts.Words)}
	t.budget = tableBudget(a.share)
	if a.opts.NewStates != nil {
		t.states = a.opts.NewStates()
	}
	var err error
	t.wordMem, err = offheap.Allocate(int(t.budget &^ 4095))
	if err != nil {
		return nil, err
	}
	t.words = unsafe.Slice((*uint64)(unsafe.Pointer(&t.wordMem[0])), len(t.wordMem)/8)
	if err := t.makeSlots(initialSlots); err != nil {
		offheap.Release(t.wordMem)
		return nil, err
	}
	return t, nil
}

// tableBudget returns the bytes of a share that the table itself can use. The rest is for the write
// buffer of the table's file.
func tableBudget(share int64) int64 { return share - int64(bufferSize(share)) }

func (t *Table) makeSlots(n int) error {
	mem, err := offheap.Allocate(8 * n)
	if err != nil {
		return err
	}
	t.slotMem = mem
	t.slots = unsafe.Slice((*uint64)(unsafe.Pointer(&mem[0])), n)
	return nil
}

// Discard frees the memory of the table, which cannot be used afterwards.
func (t *Table) Discard() error {
	offheap.Release(t.wordMem)
	offheap.Release(t.slotMem)
	t.wordMem, t.slotMem, t.words, t.slots = nil, nil, nil, nil
	clear(t.stateBatch[:]) // on systems where Release does nothing, the states would keep the memory
	t.err = spill.ErrClosed
	return t.spill.close()
}

// Get counts a record of a key and returns the words of the key's state, which are 0 for a new key.
// The caller can change the words until the next call.
func (t *Table) Get(key []byte) (state []uint64, isNew bool, err error) {
	hash := maphash.Bytes(t.seed, key)
	pos, isNew, err := t.entry(hash, key)
	if err != nil {
		return nil, false, err
	}
	t.words[pos] += recordIncrement
	t.inputTotals.Records++
	t.inputTotals.KeySum += hash
	return t.state(pos), isNew, nil
}

// entry returns the position of a key's entry, which it creates if necessary.
func (t *Table) entry(hash uint64, key []byte) (pos int, isNew bool, err error) {
	if t.states != nil && t.entryCount > 0 && !t.hasRoom(0, false) { // the states have outgrown the budget
		if err := t.emptyTable(); err != nil {
			return 0, false, t.fail(err)
		}
	}
	pos = t.find(hash, key)
	if pos < 0 {
		pos, err = t.insert(hash, key)
		if err != nil {
			return 0, false, err
		}
		isNew = true
	}
	return pos, isNew, nil
}

func (t *Table) count(pos int) uint64 { return t.words[pos] >> lenBits }

// addCount adds n to an entry's record count. If the count overflows, Groups will yield an error.
func (t *Table) addCount(pos int, n uint64) { t.words[pos] += n << lenBits }

func (t *Table) state(pos int) []uint64 {
	pos += headWords
	return t.words[pos : pos+t.stateLen : pos+t.stateLen]
}

// find returns the position of a key's entry, or -1.
func (t *Table) find(hash uint64, key []byte) int {
	slots := t.slots
	mask := uint32(len(slots) - 1)
	for i := uint32(hash) & mask; int(i) < len(slots); i = (i + 1) & mask {
		slot := slots[i]
		if slot == 0 {
			return -1
		}
		if uint32(slot>>32) == uint32(hash) {
			pos := int(uint32(slot)) - 1
			if string(t.key(pos)) == string(key) {
				return pos
			}
		}
	}
	return -1
}

func (t *Table) key(pos int) []byte {
	n := int(t.words[pos] & maxKeyLen)
	from := (pos + headWords + t.stateLen) * 8
	return t.wordMem[from : from+n : from+n]
}

// MaxKey returns the maximum length of a key in bytes.
func (t *Table) MaxKey() int {
	return int(min(maxKeyLen, tableBudget(t.a.minShare)/16-8*int64(t.entryWords(0)))) &^ 7
}

// entryWords returns the number of words in an entry with a key of n bytes.
func (t *Table) entryWords(n int) int { return headWords + t.stateLen + (n+7)/8 }

// insert creates an entry for a new key. If the table is full, insert first empties it.
func (t *Table) insert(hash uint64, key []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	size := t.entryWords(len(key))
	if maxLen := t.MaxKey(); len(key) > maxLen {
		return 0, t.fail(fmt.Errorf("%w: the key has %d bytes, but the limit is %d (up to %d with more memory or fewer threads)", ErrTooLarge, len(key), maxLen, maxKeyLen&^7))
	}
	growFirst := t.mustGrow()
	// A table is futile if it combines hardly any records, because almost all keys are unique.
	isFutile := t.entryCount >= t.bypassAt && int64(t.entryCount) >= (t.inputTotals.Records-t.recordsOut)*9/10
	if isFutile || !t.hasRoom(size, growFirst) {
		if t.entryCount == 0 {
			return 0, t.fail(fmt.Errorf("%w: a single group does not fit in memory", ErrTooLarge))
		}
		if isFutile {
			t.startBypass()
		}
		if err := t.emptyTable(); err != nil {
			return 0, t.fail(err)
		}
		growFirst = false
	}
	if growFirst {
		if err := t.growSlots(); err != nil {
			return 0, t.fail(err)
		}
	}
	pos := t.usedWords
	t.usedWords += size
	t.entryCount++
	t.words[pos] = uint64(len(key))
	clear(t.words[pos+headWords : pos+headWords+t.stateLen])
	copy(t.wordMem[(pos+headWords+t.stateLen)*8:], key)
	keymap.InsertSlot(t.slots, hash<<32|uint64(pos+1))
	return pos, nil
}

func (t *Table) fail(err error) error {
	t.err = err
	return t.a.Fail(err)
}

// mustGrow reports whether the number of slots must be doubled for one more entry.
func (t *Table) mustGrow() bool { return (t.entryCount+1)*2 > len(t.slots) }

// hasRoom reports whether an entry with the given number of words fits. If growFirst is true, the
// number of slots must be doubled first; until they are copied, the old slots also need memory.
func (t *Table) hasRoom(size int, growFirst bool) bool {
	slots := len(t.slots)
	if growFirst {
		slots *= 3
	}
	total := int64(t.usedWords+size+slots) * 8
	if t.states != nil {
		total += t.states.Memory()
	}
	// In a slot, a position has 32 bits.
	return total <= t.budget && t.usedWords+size <= min(len(t.words), 1<<32-2)
}

func (t *Table) growSlots() error {
	old, oldMem := t.slots, t.slotMem
	if err := t.makeSlots(2 * len(old)); err != nil {
		return err
	}
	keymap.MoveSlots(t.slots, old)
	offheap.Release(oldMem)
	return nil
}

func (t *Table) reset() {
	clear(t.slots)
	t.usedWords, t.entryCount = 0, 0
	t.resets++
	if t.states != nil {
		t.states.Reset()
	}
}

// Close ends the input of the table. Its entries remain for Groups.
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
	a.stats.Records += t.inputTotals.Records
	a.stats.KeySum += t.inputTotals.KeySum
	t.inputTotals = Totals{}
	err := t.err
	if err != nil {
		return err
	}
	t.err = fmt.Errorf("the table: %w", spill.ErrClosed)
	return nil
}

// States returns the result of NewStates for this table.
func (t *Table) States() States { return t.states }
