// Package hashjoin keeps the records of one side of a join in memory, where those of
// the other side find them by their keys.
//
// Several goroutines add records, as many as fit. Then either all are found by their
// keys, by several goroutines at the same time, or, as one did not fit, all are taken
// out again. There may be any number of records of a key: they make a list.
package hashjoin

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/go-partd/partd/internal/ledger"
	"github.com/go-partd/partd/internal/offheap"
)

// Table has the records. The entry of one begins at a multiple of eight bytes, with a
// word: the place of the next entry of the key in the lower half; of the first one, how
// many there are above it, and a bit for a key that was found. The lengths of the key
// and of the record follow, then both.
type Table struct {
	seed    maphash.Seed
	memory  int64
	shift   int // a piece has 1<<shift words; one with a single entry may have more
	writers []writer

	// Mu guards what follows while records are added.
	mu      sync.Mutex
	pieces  []*piece
	bytes   int64 // of all pieces
	records int   // in those that are full

	// index is an open-addressing table with linear probing. A slot is empty (0) or
	// holds the upper half of the key's hash above the place of the key's first entry.
	index    []uint64
	indexMem []byte
}

// piece is memory that one writer fills.
type piece struct {
	mem   []byte
	used  int
	place int // of its first word
}

// writer is what one goroutine adds with.
type writer struct {
	*piece
	records int // in the piece
	count   ledger.Count
	_       [64]byte // another's is not in the same line of the cache
}

const (
	wordBytes = 8
	minEntry  = 16 // bytes
	found     = 1 << 63
	one       = 1 << 32 // entry of a key, in its first word
)

// New returns a table that takes as much memory, in bytes, filled by as many
// goroutines.
func New(memory int64, threads int) *Table {
	// What is not used of the pieces in the end is a thirty-second of the memory at most.
	const least, most = 9, 21 // 4 KiB and 16 MiB
	t := &Table{seed: maphash.MakeSeed(), memory: memory, writers: make([]writer, threads)}
	t.shift = min(max(least, bits.Len64(uint64(memory)/wordBytes/32/uint64(threads))-1), most)
	for i := range t.writers {
		t.writers[i].piece = &piece{}
	}
	return t
}

// Close gives the memory back.
func (t *Table) Close() error {
	for _, p := range t.pieces {
		offheap.Release(p.mem)
	}
	offheap.Release(t.indexMem)
	t.pieces, t.index, t.indexMem = nil, nil, nil
	return nil
}

// indexBytes is what the index of so many records takes.
func indexBytes(records int) int64 { return wordBytes * (int64(records)*4/3 + 16) }

// words returns n rounded up to the bytes of whole words.
func words(n int) int { return (n + wordBytes - 1) &^ (wordBytes - 1) }

// Add adds a copy of a record, for one of the goroutines, unless it does not fit.
func (t *Table) Add(worker int, key, record []byte) (fits bool, err error) {
	w := &t.writers[worker]
	n := words(wordBytes + uvarintLen(len(key)) + uvarintLen(len(record)) + len(key) + len(record))
	if w.used+n > len(w.mem) {
		if fits, err := t.take(w, n); !fits {
			return false, err
		}
	}
	at := w.mem[w.used : w.used+n]
	*headOf(at) = one
	b := binary.AppendUvarint(at[wordBytes:wordBytes], uint64(len(key)))
	b = binary.AppendUvarint(b, uint64(len(record)))
	b = append(append(b, key...), record...)
	w.count.AddRecord(b)
	w.used += n
	w.records++
	return true, nil
}

func uvarintLen(x int) int { return (bits.Len64(uint64(x)|1) + 6) / 7 }

// take gives a writer a new piece that an entry of n bytes fits in.
func (t *Table) take(w *writer, n int) (fits bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records += w.records
	w.records = 0
	size := wordBytes << t.shift
	records := t.records + len(t.writers)*(size/minEntry)
	if n = max(n, size); t.bytes+int64(n)+indexBytes(records) > t.memory || len(t.pieces)+2 > 1<<(32-t.shift) {
		return false, nil
	}
	mem, err := offheap.Allocate(n)
	if err != nil {
		return false, err
	}
	w.piece = &piece{mem: mem, place: (len(t.pieces) + 1) << t.shift} // place 0 is none
	t.pieces, t.bytes = append(t.pieces, w.piece), t.bytes+int64(n)
	return true, nil
}

// Added returns the account of the records that were added.
func (t *Table) Added() (all ledger.Count) {
	for i := range t.writers {
		all.Add(t.writers[i].count)
	}
	return all
}

// TakeOut hands all records over, and gives their memory back on the way.
func (t *Table) TakeOut(use func(key, record []byte) error) error {
	var out ledger.Count
	for _, p := range t.pieces {
		for at := 0; at < p.used; {
			key, record, n := entryOf(p.mem[at:])
			out.AddRecord(p.mem[at+wordBytes : at+n])
			if err := use(key, record); err != nil {
				return err
			}
			at += words(n)
		}
		offheap.Release(p.mem)
		p.mem = nil
	}
	return t.Added().Compare(out)
}

// Index makes the records be found. None is added from now on.
func (t *Table) Index() (err error) {
	if t.indexMem, err = offheap.Allocate(int(indexBytes(int(t.Added().Records)))); err != nil {
		return err
	}
	t.index = unsafe.Slice((*uint64)(unsafe.Pointer(&t.indexMem[0])), len(t.indexMem)/wordBytes)
	var next atomic.Int64
	var tasks sync.WaitGroup
	for range t.writers {
		tasks.Go(func() {
			f := Finder{Table: t}
			for i := next.Add(1); int(i) <= len(t.pieces); i = next.Add(1) {
				f.insert(t.pieces[i-1])
			}
		})
	}
	tasks.Wait()
	return nil
}

func (t *Table) hash(key []byte) uint64 { return maphash.Bytes(t.seed, key) }

// home is the slot where the search for a hash begins.
func (t *Table) home(hash uint64) int { return int(uint64(uint32(hash)) * uint64(len(t.index)) >> 32) }

func (t *Table) after(slot int) int {
	if slot++; slot < len(t.index) {
		return slot
	}
	return 0
}

// holds reports whether a slot is that of a key.
func (t *Table) holds(slot, hash uint64, key []byte) bool {
	if slot>>32 != hash>>32 {
		return false
	}
	other, _, _ := entryOf(t.at(int(uint32(slot))))
	return string(other) == string(key)
}

// at returns the memory from a place on.
func (t *Table) at(place int) []byte {
	return t.pieces[place>>t.shift-1].mem[place&(1<<t.shift-1)*wordBytes:]
}

func headOf(entry []byte) *uint64 { return (*uint64)(unsafe.Pointer(&entry[0])) }

// entryOf returns what an entry holds, and how many bytes it has.
func entryOf(at []byte) (key, record []byte, n int) {
	k, r, i := int(at[wordBytes]), int(at[wordBytes+1]), wordBytes+2
	if k|r >= 0x80 { // they are longer
		k, r, i = longLengths(at)
	}
	n = i + k + r
	return at[i : i+k : i+k], at[i+k : n : n], n
}

func longLengths(at []byte) (key, record, end int) {
	k, l := binary.Uvarint(at[wordBytes:])
	r, m := binary.Uvarint(at[wordBytes+l:])
	return int(k), int(r), wordBytes + l + m
}
