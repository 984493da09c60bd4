package logstore

import (
	"io"
	"math/bits"
	"sync/atomic"

	"github.com/go-partd/partd/internal/offheap"
	"github.com/go-partd/partd/internal/segment"
)

// table holds what was appended since the last seal, split into hash ranges,
// each a list of chunks of one arena. A part grows at its end only, so that a
// reader that noted its size needs no lock.
//
// All fields but refs are guarded by Store.mu until the table is frozen, and do
// not change from then until reset.
type table struct {
	arena     []byte
	chunkSize int
	chunks    int // how many chunks are in use
	bits      uint8
	parts     []part

	wal       *walFile
	firstSeq  uint64
	ledger    Ledger
	size      int64 // encoded bytes
	bare      int64 // bytes of records without entries in wal
	maxBlobNo uint32
	loose     bool // not one of those in turn: given back when nobody reads it

	// refs counts the readers that copy from the arena, plus one for the store
	// while the table is in use.
	refs atomic.Int32
	need []int32 // scratch of fits
	// touched keeps what insert reads from being optimised away.
	touched byte
}

type part struct {
	size   int // bytes in it
	tail   int // where the last chunk begins in the arena
	chunks []uint32
}

// tableShape returns the number of bits of the hash that choose a part, and
// the size of chunks, for a table of n bytes: a part should have several
// chunks, since the last of each is half empty.
func tableShape(n int64) (partBits uint8, chunkSize int) {
	chunkSize = 1 << min(max(bits.Len64(uint64(n/6000))-1, 9), 14)
	parts := max(n/int64(chunkSize*6), 1)
	return min(uint8(bits.Len64(uint64(parts))-1), 12), chunkSize
}

func newTable(n int64) (*table, error) {
	partBits, chunkSize := tableShape(n)
	n = n / int64(chunkSize) * int64(chunkSize)
	arena, err := offheap.Allocate(int(n))
	if err != nil {
		return nil, err
	}
	return &table{
		arena: arena, chunkSize: chunkSize, bits: partBits,
		parts: make([]part, 1<<partBits), need: make([]int32, 1<<partBits),
	}, nil
}

func (t *table) reset() {
	for i := range t.parts {
		p := &t.parts[i]
		p.size, p.tail = 0, 0
		// A reader may still hold the old list, but never uses it again: it
		// has let go of the table before.
		if cap(p.chunks) > 64 {
			p.chunks = nil
		}
		p.chunks = p.chunks[:0]
	}
	t.chunks, t.size, t.bare, t.maxBlobNo = 0, 0, 0, 0
	t.ledger = Ledger{}
	t.wal = nil
}

func (t *table) fits(b *batch) bool {
	free := len(t.arena)/t.chunkSize - t.chunks
	maxChunks := len(b.entries())/t.chunkSize + min(len(b.at), len(t.parts)) + 1
	if maxChunks <= free {
		return true
	}
	// Near the end, the exact number.
	needed := 0
	for i := range b.at {
		p := b.part[i]
		n := int32(len(b.entryAt(i)))
		if t.need[p] == 0 {
			t.need[p] = int32(t.parts[p].size & (t.chunkSize - 1))
			if t.need[p] == 0 {
				needed++
			}
		}
		before := t.need[p]
		after := before + n
		needed += (int(after)+t.chunkSize-1)/t.chunkSize - max((int(before)+t.chunkSize-1)/t.chunkSize, 1)
		t.need[p] = after
	}
	for i := range b.at {
		t.need[b.part[i]] = 0
	}
	return needed <= free
}

// insert adds an encoded batch that fits. Entries go to parts all over the
// arena, so nearly each copy would wait for memory; a few at a time, the cache
// lines that they are about to begin are read before anything is written there,
// so that the waits overlap. The line that a part ends in is mostly still in the
// cache from the entry before.
func (t *table) insert(b *batch) {
	const group = 32
	mask := t.chunkSize - 1
	for start := 0; start < len(b.at); start += group {
		end := min(start+group, len(b.at))
		for _, n := range b.part[start:end] {
			p := &t.parts[n]
			at := p.tail + p.size&mask
			t.touched += t.arena[min(at+64, len(t.arena)-1)] + t.arena[min(at+128, len(t.arena)-1)]
		}
		for i := start; i < end; i++ {
			e := b.entryAt(i)
			p := &t.parts[b.part[i]]
			off := p.size & mask
			if off != 0 && off+len(e) <= t.chunkSize {
				copy(t.arena[p.tail+off:], e)
				p.size += len(e)
				continue
			}
			t.insertSlow(p, e)
		}
	}
	t.size += int64(len(b.entries()))
	t.ledger.Add(b.ledger)
	t.maxBlobNo = max(t.maxBlobNo, b.maxBlobNo)
}

func (t *table) insertSlow(p *part, e []byte) {
	for len(e) > 0 {
		off := p.size & (t.chunkSize - 1)
		if off == 0 {
			p.chunks = append(p.chunks, uint32(t.chunks))
			p.tail = t.chunks * t.chunkSize
			t.chunks++
			// The place where the next chunk will begin is fetched meanwhile.
			if next := t.chunks * t.chunkSize; next+192 <= len(t.arena) {
				t.touched += t.arena[next] + t.arena[next+64] + t.arena[next+128]
			}
		}
		n := copy(t.arena[p.tail+off:p.tail+t.chunkSize], e)
		p.size += n
		e = e[n:]
	}
}

// source returns the entries of a part, as noted in a copy of it.
func (t *table) source(p part) segment.Source { return &partSource{t: t, part: p} }

type partSource struct {
	t *table
	part
	next int // of chunks
}

func (s *partSource) Next() ([]byte, error) {
	n := min(s.size-s.next*s.t.chunkSize, s.t.chunkSize)
	if n <= 0 {
		return nil, io.EOF
	}
	at := int(s.chunks[s.next]) * s.t.chunkSize
	s.next++
	return s.t.arena[at : at+n : at+n], nil
}

// blocksOf returns what a part holds, as noted in a copy of it.
func (t *table) blocksOf(p part) [][]byte {
	blocks := make([][]byte, 0, len(p.chunks))
	src := partSource{t: t, part: p}
	for b, err := src.Next(); err == nil; b, err = src.Next() {
		blocks = append(blocks, b)
	}
	return blocks
}
