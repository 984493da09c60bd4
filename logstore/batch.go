package logstore

import (
	"hash/crc32"
	"math/bits"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/engine/segment"
)

// batch is an encoded record that is not yet written. Entry i begins at buf[offsets[i]] and belongs
// to part parts[i] of the table. Batches are reused.
type batch struct {
	buf       []byte // space for the header, then the entries
	offsets   []uint32
	parts     []uint32
	hashes    []uint64          // hashes of the keys; only encodeAppend uses it
	blobs     []segment.BlobRef // blobs written for this batch
	ledger    segment.Ledger    // counts and checksums of the entries
	maxBlobNo uint32            // highest number of a blob file that an entry refers to
	crc       uint32            // checksum of buf's entries, as encoded
}

// entryOverhead is the number of bytes that a batch needs for each entry in addition to its encoding.
const entryOverhead = 4 + 4 + 8

func (b *batch) memory() int { return cap(b.buf) + 4*cap(b.offsets) + 4*cap(b.parts) + 8*cap(b.hashes) }

func (b *batch) reset() {
	if cap(b.buf) < recordPrefix {
		b.buf = make([]byte, 0, 16<<10)
	}
	b.buf = b.buf[:recordPrefix]
	b.offsets, b.parts, b.hashes, b.blobs = b.offsets[:0], b.parts[:0], b.hashes[:0], b.blobs[:0]
	b.ledger = segment.Ledger{}
	b.maxBlobNo = 0
}

// clear removes all entries, so that the operation can be encoded again. It keeps the list of blobs
// that were already written, so that change can free their space.
func (b *batch) clear() {
	blobs := b.blobs
	b.reset()
	b.blobs = blobs
}

func (b *batch) entries() []byte { return b.buf[recordPrefix:] }

func (b *batch) entryAt(i int) []byte {
	if i+1 < len(b.offsets) {
		return b.buf[b.offsets[i]:b.offsets[i+1]]
	}
	return b.buf[b.offsets[i]:]
}

// add appends an entry with its value. partBits is the number of hash bits that select a part of
// the table.
func (b *batch) add(kind segment.Kind, key string, value []byte, hash uint64, partBits uint8) {
	start := len(b.buf)
	buf := segment.AppendEntryHead(b.buf, kind, key, len(value))
	buf = append(buf, value...)
	b.push(start, buf, hash, partBits)
	headLen := 1
	for buf[start+headLen-1] >= 0x80 {
		headLen++
	}
	b.ledger.AddEntry(kind, buf[start+headLen:], len(value))
}

// push adds an entry that the caller has appended to b.buf. buf is the result, and the entry begins
// at start.
func (b *batch) push(start int, buf []byte, hash uint64, partBits uint8) {
	b.buf = buf
	b.offsets = append(b.offsets, uint32(start))
	b.parts = append(b.parts, uint32(hash>>(64-partBits)))
}

func (b *batch) checksum() { b.crc = crc32.Checksum(b.entries(), segment.Castagnoli) }

// The length of a key shorter than shortKey is encoded in one byte. The kind of an entry and the
// length of its value take at most two bytes if the value is shorter than shortValue.
const (
	shortKey   = 1 << 7
	shortValue = 1 << (14 - 2)
)

// addShort appends entries until one has a long key, a long value or an empty value. It returns the
// number that it appended. It does the same as add, but faster, because it keeps the batch's fields
// in local variables.
func (b *batch) addShort(entries []partd.Entry, hashes []uint64, partBits uint8, blobBytes int) int {
	valueLimit := min(blobBytes, shortValue)
	buf, offsets, parts := b.buf, b.offsets, b.parts
	var sumLo, sumHi, carry uint64
	var bytes int64
	n := 0
	for i := range entries {
		e := &entries[i]
		k, v := len(e.Key), len(e.Value)
		if k >= shortKey || v == 0 || v >= valueLimit {
			break
		}
		n++
		start := len(buf)
		end := start + 3 + k + v
		buf = slices.Grow(buf, 3+k+v)[:end]
		entry := buf[start:]
		head := uint(v)<<2 | uint(segment.KindAppend)
		headLen := 1
		if head < 0x80 {
			entry[0] = byte(head)
			buf = buf[:end-1]
		} else {
			entry[0], entry[1] = byte(head)|0x80, byte(head>>7)
			headLen = 2
		}
		hashed := entry[headLen : headLen+1+k+v]
		hashed[0] = byte(k)
		copy(hashed[1:], e.Key)
		copy(hashed[1+k:], e.Value)
		h := xxh3.Hash128(hashed)
		sumLo, carry = bits.Add64(sumLo, h.Lo, 0)
		sumHi, _ = bits.Add64(sumHi, h.Hi, carry)
		bytes += int64(v)
		offsets = append(offsets, uint32(start))
		parts = append(parts, uint32(hashes[i]>>(64-partBits)))
	}
	b.buf, b.offsets, b.parts = buf, offsets, parts
	b.ledger.Add(segment.Ledger{Pieces: int64(n), Bytes: bytes, Sum: ledger.Sum128{Hi: sumHi, Lo: sumLo}})
	return n
}
