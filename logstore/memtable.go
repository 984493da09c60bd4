package logstore

import (
	"io"
	"math/bits"
	"sync/atomic"

	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/engine/segment"
)

// memtable holds the newest entries, divided into parts by ranges of key hashes. A part is
// a list of chunks of the arena. Parts only grow at the end, so a reader with a copy of a part
// needs no lock.
//
// Until the table is frozen, Store.mu guards all fields except refs. A frozen table does
// not change until reset.
type memtable struct {
	arena     []byte
	chunkSize int
	chunks    int // number of chunks in use
	bits      uint8
	parts     []part

	wal              *walFile
	firstSeq         uint64
	ledger           segment.Ledger
	size             int64 // encoded bytes
	emptyRecordBytes int64 // bytes of records in wal that have no entries
	maxBlobNo        uint32
	temporary        bool // the table is freed, not reused, when its last reader ends

	// refs counts the readers of the arena, plus one for the store while it uses the table.
	refs       atomic.Int32
	fitScratch []int32 // scratch buffer of fits: for each part, the bytes in its last chunk plus new bytes
	touched    byte    // sum of prefetched bytes, so that the compiler does not remove the prefetches
}

type part struct {
	size   int // used bytes
	tail   int // offset in the arena of the part's last chunk
	chunks []uint32
}

// tableShape returns the number of hash bits that select a part, and the size of a chunk, for a
// table of n bytes. In a full table, each part should have several chunks, because the last chunk
// is only half full on average.
func tableShape(n int64) (partBits uint8, chunkSize int) {
	chunkSize = 1 << min(max(bits.Len64(uint64(n/6000))-1, 9), 14)
	parts := max(n/int64(chunkSize*6), 1)
	return min(uint8(bits.Len64(uint64(parts))-1), 12), chunkSize
}

func newTable(size int64) (*memtable, error) {
	partBits, chunkSize := tableShape(size)
	size = size / int64(chunkSize) * int64(chunkSize)
	arena, err := offheap.Allocate(int(size))
	if err != nil {
		return nil, err
	}
	return &memtable{
		arena: arena, chunkSize: chunkSize, bits: partBits,
		parts: make([]part, 1<<partBits), fitScratch: make([]int32, 1<<partBits),
	}, nil
}

// resize replaces the arena of an empty table with one of the given size.
func (t *memtable) resize(size int64) error {
	arena, err := offheap.Allocate(int(size / int64(t.chunkSize) * int64(t.chunkSize)))
	if err != nil {
		return err
	}
	offheap.Release(t.arena)
	t.arena = arena
	return nil
}

func (t *memtable) reset() {
	for i := range t.parts {
		p := &t.parts[i]
		p.size, p.tail = 0, 0
		if cap(p.chunks) > 64 {
			p.chunks = nil
		}
		p.chunks = p.chunks[:0]
	}
	t.chunks, t.size, t.emptyRecordBytes, t.maxBlobNo = 0, 0, 0, 0
	t.ledger = segment.Ledger{}
	t.wal = nil
}

func (t *memtable) fits(b *batch) bool {
	free := len(t.arena)/t.chunkSize - t.chunks
	maxChunks := len(b.entries())/t.chunkSize + min(len(b.offsets), len(t.parts)) + 1
	if maxChunks <= free {
		return true
	}
	needed := 0 // count exactly, because space is scarce
	for i := range b.offsets {
		partNo := b.parts[i]
		n := int32(len(b.entryAt(i)))
		if t.fitScratch[partNo] == 0 {
			t.fitScratch[partNo] = int32(t.parts[partNo].size & (t.chunkSize - 1))
			if t.fitScratch[partNo] == 0 {
				needed++
			}
		}
		oldSize := t.fitScratch[partNo]
		newSize := oldSize + n
		needed += (int(newSize)+t.chunkSize-1)/t.chunkSize - max((int(oldSize)+t.chunkSize-1)/t.chunkSize, 1)
		t.fitScratch[partNo] = newSize
	}
	for i := range b.offsets {
		t.fitScratch[b.parts[i]] = 0
	}
	return needed <= free
}

// insert adds an encoded batch, which must fit. Consecutive entries go to distant addresses, so
// almost every copy would wait for memory. To let these waits overlap, insert first touches the
// cache lines that a group of entries will write.
func (t *memtable) insert(b *batch) {
	const group = 32
	mask := t.chunkSize - 1
	for start := 0; start < len(b.offsets); start += group {
		end := min(start+group, len(b.offsets))
		for _, partNo := range b.parts[start:end] {
			p := &t.parts[partNo]
			pos := p.tail + p.size&mask
			t.touched += t.arena[min(pos+64, len(t.arena)-1)] + t.arena[min(pos+128, len(t.arena)-1)]
		}
		for i := start; i < end; i++ {
			e := b.entryAt(i)
			p := &t.parts[b.parts[i]]
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

func (t *memtable) insertSlow(p *part, e []byte) {
	for len(e) > 0 {
		off := p.size & (t.chunkSize - 1)
		if off == 0 {
			p.chunks = append(p.chunks, uint32(t.chunks))
			p.tail = t.chunks * t.chunkSize
			t.chunks++
			if nextOffset := t.chunks * t.chunkSize; nextOffset+192 <= len(t.arena) {
				t.touched += t.arena[nextOffset] + t.arena[nextOffset+64] + t.arena[nextOffset+128]
			}
		}
		n := copy(t.arena[p.tail+off:p.tail+t.chunkSize], e)
		p.size += n
		e = e[n:]
	}
}

// source returns the entries of p, a part of the table or an older copy of one.
func (t *memtable) source(p part) segment.Source { return &partSource{t: t, part: p} }

type partSource struct {
	t *memtable
	part
	nextChunk int
}

func (s *partSource) Next() ([]byte, error) {
	n := min(s.size-s.nextChunk*s.t.chunkSize, s.t.chunkSize)
	if n <= 0 {
		return nil, io.EOF
	}
	start := int(s.chunks[s.nextChunk]) * s.t.chunkSize
	s.nextChunk++
	return s.t.arena[start : start+n : start+n], nil
}

func (t *memtable) blocksOf(p part) [][]byte {
	blocks := make([][]byte, 0, len(p.chunks))
	src := partSource{t: t, part: p}
	for b, err := src.Next(); err == nil; b, err = src.Next() {
		blocks = append(blocks, b)
	}
	return blocks
}

// hotBytes returns the minimum size of a hot key's entries in a table, in bytes.
func (t *memtable) hotBytes() int64 { return max(int64(len(t.arena))/512, 4<<10) }

// writeBytes writes the bytes [start, end) of part p to w.
func (t *memtable) writeBytes(w *segment.Writer, p part, start, end int) error {
	for start < end {
		off := start & (t.chunkSize - 1)
		chunk := t.arena[int(p.chunks[start/t.chunkSize])*t.chunkSize:][off:t.chunkSize]
		chunk = chunk[:min(len(chunk), end-start)]
		if err := w.Write(chunk); err != nil {
			return err
		}
		start += len(chunk)
	}
	return nil
}
