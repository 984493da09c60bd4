package extsort

import (
	"bytes"
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/go-partd/partd/internal/offheap"
)

// slot is memory that records are collected in and sorted in. Records grow from
// its beginning; two entries for each are reserved at its end.
type slot struct {
	mem     []byte
	seq     int64
	used    int // bytes of records
	records int
	entries []entry // sorted, once they are
}

// entry stands for a record while it is sorted: the first eight bytes of the
// key as a big-endian number; and where the record is, how long is what stands
// before its key, and how long is the key, as far as it fits.
type entry struct {
	prefix uint64
	ref    uint64
}

const (
	entrySize = 16
	keyBits   = 16 // of ref, for the length of the key
	maxRefLen = 1<<keyBits - 1
	headBits  = 4 // for what stands before the key
	maxHead   = 1<<headBits - 1
	refLen    = keyBits + headBits
)

func (s *Sorter) addSlot() error {
	mem, err := offheap.AllocatePages(s.sizes.slot)
	if err == nil {
		m := &slot{mem: mem}
		s.slots, s.free = append(s.slots, m), append(s.free, m)
	}
	return err
}

// fits reports whether so many more bytes and records fit.
func (m *slot) fits(bytes, records int) bool {
	return m.used+bytes+2*entrySize*(m.records+records) <= len(m.mem)
}

// sort makes the sorted list of entries.
func (m *slot) sort() {
	n := m.records
	if n == 0 {
		return
	}
	both := unsafe.Slice((*entry)(unsafe.Pointer(&m.mem[len(m.mem)-2*entrySize*n])), 2*n)
	list := both[:n]
	at := 0
	sorted := true // so far
	var last []byte
	for i := range list {
		off := at
		item, l := uvarint(m.mem[at:])
		at += l
		keyLen, k := uvarint(m.mem[at:])
		key := m.mem[at+k : at+k+keyLen]
		list[i] = entry{prefixOf(key), uint64(off)<<refLen | uint64(at+k-off)<<keyBits | uint64(min(keyLen, maxRefLen))}
		at += item
		if sorted {
			sorted = bytes.Compare(last, key) <= 0
			last = key
		}
	}
	if !sorted {
		(&sorter{mem: m.mem}).sort(list, both[n:], 0)
	}
	m.entries = list
}

func key(mem []byte, e entry) []byte {
	at := int(e.ref>>refLen + e.ref>>keyBits&maxHead)
	n := int(e.ref & maxRefLen)
	if n == maxRefLen {
		k, _ := record(mem, e)
		return k
	}
	return mem[at : at+n : at+n]
}

func record(mem []byte, e entry) (key, rec []byte) {
	at := int(e.ref >> refLen)
	item, l := uvarint(mem[at:])
	at += l
	end := at + item
	keyLen, k := uvarint(mem[at:])
	at += k
	return mem[at : at+keyLen : at+keyLen], mem[at+keyLen : end : end]
}

// uvarint reads a number that this package wrote, and its length.
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

// prefixOf returns the first eight bytes of a key as a number, zeros for those
// that it lacks.
func prefixOf(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var x uint64
	for i, c := range key {
		x |= uint64(c) << (56 - 8*i)
	}
	return x
}
