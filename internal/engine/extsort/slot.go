package extsort

import (
	"bytes"
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/go-partd/partd/internal/base/offheap"
)

// slot is memory for collecting and sorting records. The records are at the beginning of mem.
// The end of mem is reserved for two entries per record: one in the list of entries, and one for
// sorting the list.
type slot struct {
	mem     []byte
	seq     int64 // number of the slot, in the order of the input
	used    int   // size of the records in bytes
	records int
	entries []Entry // set by sort, in sort order
}

// Entry represents a record in a sort.
type Entry struct {
	Prefix uint64 // eight bytes of the key, initially the first ones, as a big-endian number
	// Ref identifies the record. In a Sorter, it consists of, from the highest bits: the record's
	// offset; the number of bytes before the key in the record; and the key's length, or maxRefLen
	// if the key is at least that long.
	Ref uint64
}

const (
	entrySize = 16
	keyBits   = 16 // bits of ref for the key's length
	maxRefLen = 1<<keyBits - 1
	headBits  = 4 // bits of ref for the number of bytes before the key
	maxHead   = 1<<headBits - 1
	refLen    = keyBits + headBits
)

func (s *Sorter) addSlot() error {
	mem, err := offheap.AllocateSmallPages(s.sizes.slot)
	if err != nil {
		return err
	}
	m := &slot{mem: mem}
	s.slots, s.free = append(s.slots, m), append(s.free, m)
	return nil
}

func (m *slot) hasRoom(bytes, records int) bool {
	return m.used+bytes+2*entrySize*(m.records+records) <= len(m.mem)
}

func (m *slot) sort() {
	n := m.records
	if n == 0 {
		return
	}
	entries := unsafe.Slice((*Entry)(unsafe.Pointer(&m.mem[len(m.mem)-2*entrySize*n])), 2*n)
	list := entries[:n]
	pos := 0
	sorted := true
	var last []byte
	for i := range list {
		off := pos
		itemLen, l := uvarint(m.mem[pos:])
		pos += l
		keyLen, k := uvarint(m.mem[pos:])
		key := m.mem[pos+k : pos+k+keyLen]
		list[i] = Entry{prefixOf(key), uint64(off)<<refLen | uint64(pos+k-off)<<keyBits | uint64(min(keyLen, maxRefLen))}
		pos += itemLen
		if sorted {
			sorted = bytes.Compare(last, key) <= 0
			last = key
		}
	}
	if !sorted {
		(&sorter{mem: m.mem}).sort(list, entries[n:], 0)
	}
	m.entries = list
}

func keyOf(mem []byte, e Entry) []byte {
	pos := int(e.Ref>>refLen + e.Ref>>keyBits&maxHead)
	n := int(e.Ref & maxRefLen)
	if n == maxRefLen {
		k, _ := recordOf(mem, e)
		return k
	}
	return mem[pos : pos+n : pos+n]
}

func recordOf(mem []byte, e Entry) (key, rec []byte) {
	pos := int(e.Ref >> refLen)
	itemLen, l := uvarint(mem[pos:])
	pos += l
	end := pos + itemLen
	keyLen, k := uvarint(mem[pos:])
	pos += k
	return mem[pos : pos+keyLen : pos+keyLen], mem[pos+keyLen : end : end]
}

// uvarint returns the number at the beginning of b and its length. b must be trusted.
func uvarint(b []byte) (int, int) {
	if c := b[0]; c < 0x80 {
		return int(c), 1
	}
	if c := b[1]; c < 0x80 {
		return int(b[0]&0x7f) | int(c)<<7, 2
	}
	x, n := binary.Uvarint(b)
	if n <= 0 || x > math.MaxInt {
		return 0, 0
	}
	return int(x), n
}

// prefixOf returns the first eight bytes of a key as a big-endian number. Missing bytes are zeros.
func prefixOf(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	if n := len(key); n >= 4 { // read two overlapping words
		return uint64(binary.BigEndian.Uint32(key))<<32 | uint64(binary.BigEndian.Uint32(key[n-4:]))<<(64-8*n)
	}
	var x uint64
	for i, c := range key {
		x |= uint64(c) << (56 - 8*i)
	}
	return x
}
