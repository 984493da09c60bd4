// Package hashjoin holds the records of one side of a join in memory, for lookups by key.
//
// Several goroutines can add records. If all records fit in memory, several goroutines can then
// look up keys. Otherwise, the caller must move the records elsewhere with [Table.MoveTo].
package hashjoin

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/base/offheap"
)

// Table holds the records. The entries of a key form a linked list. An entry consists of a word,
// the lengths of the key and the record, the key, and the record. The lower half of the word is the
// position of the key's next entry. In a key's first entry, the upper half contains the number of
// entries and matchedBit.
type Table struct {
	seed    maphash.Seed
	memory  int64
	shift   int // a piece has 1<<shift words, or more for a single larger entry
	writers []writer

	// mu guards the fields below while records are added.
	mu      sync.Mutex
	pieces  []*piece
	bytes   int64 // total size of pieces
	records int   // number of records in full pieces

	// index is an open-addressing table with linear probing. A slot is 0 if it is empty.
	// Otherwise its upper half is the upper half of the key's hash, and its lower half is
	// the position of the key's first entry.
	index    []uint64
	indexMem []byte
}

// piece is memory for entries. A position is the index of a word, counting across all pieces.
type piece struct {
	mem      []byte
	used     int
	position int // position of the piece's first word
}

type writer struct {
	*piece
	records int          // number of records in the piece
	count   ledger.Count // counts all records that this writer added, to detect lost ones
	_       [64]byte     // keeps writers in different cache lines
}

const (
	wordBytes  = 8
	minEntry   = 16      // minimum size of an entry in bytes
	matchedBit = 1 << 63 // MarkMatched sets this bit in the word of a key's first entry
	oneEntry   = 1 << 32 // added to the word of a key's first entry for each of the key's entries
)

// New returns a table. memory is its maximum size in bytes, and threads is the maximum number of
// goroutines that add records concurrently.
func New(memory int64, threads int) *Table {
	// At most 1/32 of the memory remains unused in pieces.
	const minShift, maxShift = 9, 21 // 4 KiB and 16 MiB
	t := &Table{seed: maphash.MakeSeed(), memory: memory, writers: make([]writer, threads)}
	t.shift = min(max(minShift, bits.Len64(uint64(memory)/wordBytes/32/uint64(threads))-1), maxShift)
	for i := range t.writers {
		t.writers[i].piece = &piece{}
	}
	return t
}

// Close frees the table's memory.
func (t *Table) Close() error {
	for _, p := range t.pieces {
		offheap.Release(p.mem)
	}
	offheap.Release(t.indexMem)
	t.pieces, t.index, t.indexMem = nil, nil, nil
	return nil
}

func indexBytes(records int) int64 { return wordBytes * (int64(records)*4/3 + 16) }

func roundUp(n int) int { return (n + wordBytes - 1) &^ (wordBytes - 1) }

// Add adds a copy of a record. It returns false if the record does not fit in memory. worker is the
// index of the calling goroutine; it must be less than the threads passed to New.
func (t *Table) Add(worker int, key, record []byte) (fits bool, err error) {
	w := &t.writers[worker]
	n := roundUp(wordBytes + uvarintLen(len(key)) + uvarintLen(len(record)) + len(key) + len(record))
	if w.used+n > len(w.mem) {
		if fits, err := t.addPiece(w, n); !fits {
			return false, err
		}
	}
	entry := w.mem[w.used : w.used+n]
	*headOf(entry) = oneEntry
	b := binary.AppendUvarint(entry[wordBytes:wordBytes], uint64(len(key)))
	b = binary.AppendUvarint(b, uint64(len(record)))
	b = append(append(b, key...), record...)
	w.count.AddRecord(b)
	w.used += n
	w.records++
	return true, nil
}

func uvarintLen(x int) int { return (bits.Len64(uint64(x)|1) + 6) / 7 }

func (t *Table) addPiece(w *writer, n int) (fits bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records += w.records
	w.records = 0
	size := wordBytes << t.shift
	records := t.records + len(t.writers)*(size/minEntry)
	n = max(n, size)
	if t.bytes+int64(n)+indexBytes(records) > t.memory || len(t.pieces)+2 > 1<<(32-t.shift) {
		return false, nil
	}
	mem, err := offheap.Allocate(n)
	if err != nil {
		return false, err
	}
	w.piece = &piece{mem: mem, position: (len(t.pieces) + 1) << t.shift} // position 0 means no entry
	t.pieces, t.bytes = append(t.pieces, w.piece), t.bytes+int64(n)
	return true, nil
}

// Added returns the count of all added records.
func (t *Table) Added() (total ledger.Count) {
	for i := range t.writers {
		total.Add(t.writers[i].count)
	}
	return total
}

// MoveTo calls handle with each record and frees the memory of all records.
func (t *Table) MoveTo(handle func(key, record []byte) error) error {
	var count ledger.Count
	for _, p := range t.pieces {
		for pos := 0; pos < p.used; {
			key, record, n := splitEntry(p.mem[pos:])
			count.AddRecord(p.mem[pos+wordBytes : pos+n])
			if err := handle(key, record); err != nil {
				return err
			}
			pos += roundUp(n)
		}
		offheap.Release(p.mem)
		p.mem = nil
	}
	return t.Added().Compare(count)
}

// Index builds the index, which Find needs. No record may be added afterwards.
func (t *Table) Index() (err error) {
	t.indexMem, err = offheap.Allocate(int(indexBytes(int(t.Added().Records))))
	if err != nil {
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

func (t *Table) homeSlot(hash uint64) int {
	return int(uint64(uint32(hash)) * uint64(len(t.index)) >> 32)
}

func (t *Table) nextSlot(slot int) int {
	slot++
	if slot < len(t.index) {
		return slot
	}
	return 0
}

func (t *Table) slotHasKey(slot, hash uint64, key []byte) bool {
	if slot>>32 != hash>>32 {
		return false
	}
	other, _, _ := splitEntry(t.entryAt(int(uint32(slot))))
	return string(other) == string(key)
}

func (t *Table) entryAt(position int) []byte {
	return t.pieces[position>>t.shift-1].mem[position&(1<<t.shift-1)*wordBytes:]
}

// headOf returns the first word of an entry, which must begin at a multiple of eight bytes.
func headOf(entry []byte) *uint64 { return (*uint64)(unsafe.Pointer(&entry[0])) }

// splitEntry returns the key and record of an entry, and its size in bytes.
func splitEntry(entry []byte) (key, record []byte, n int) {
	k, r, i := int(entry[wordBytes]), int(entry[wordBytes+1]), wordBytes+2
	if k|r >= 0x80 { // a length has more than one byte
		k, r, i = longLengths(entry)
	}
	n = i + k + r
	return entry[i : i+k : i+k], entry[i+k : n : n], n
}

func longLengths(entry []byte) (key, record, end int) {
	k, l := binary.Uvarint(entry[wordBytes:])
	r, m := binary.Uvarint(entry[wordBytes+l:])
	return int(k), int(r), wordBytes + l + m
}
