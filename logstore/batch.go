package logstore

import (
	"context"
	"hash/crc32"
	"math/bits"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
)

// batch is an encoded record before it is written, with what the table needs
// to know of each entry. Batches are reused.
type batch struct {
	buf       []byte // room for the header, then the entries
	at        []uint32
	part      []uint32
	hash      []uint64
	blobs     []segment.BlobRef // that were written for it
	ledger    Ledger
	maxBlobNo uint32
	crc       uint32 // of the entries
}

// perEntry is what a batch notes of each entry, in bytes, besides the entry.
const perEntry = 4 + 4 + 8

func (b *batch) memory() int { return cap(b.buf) + 4*cap(b.at) + 4*cap(b.part) + 8*cap(b.hash) }

// batchPrefix is the room in front of the entries for the header and a tag.
const batchPrefix = recordHeaderLen + tagLen

func (b *batch) reset() {
	if cap(b.buf) < batchPrefix {
		b.buf = make([]byte, 0, 16<<10)
	}
	b.buf = b.buf[:batchPrefix]
	b.at, b.part, b.hash, b.blobs = b.at[:0], b.part[:0], b.hash[:0], b.blobs[:0]
	b.ledger = Ledger{}
	b.maxBlobNo = 0
}

func (b *batch) entries() []byte { return b.buf[batchPrefix:] }

func (b *batch) entryAt(i int) []byte {
	if i+1 < len(b.at) {
		return b.buf[b.at[i]:b.at[i+1]]
	}
	return b.buf[b.at[i]:]
}

// add appends an entry that is not a blob.
func (b *batch) add(kind segment.Kind, key string, value []byte, hash uint64, partBits uint8) {
	at := len(b.buf)
	buf := segment.AppendEntryHead(b.buf, kind, key, len(value))
	buf = append(buf, value...)
	b.push(at, buf, hash, partBits)
	head := 1
	for buf[at+head-1] >= 0x80 {
		head++
	}
	b.ledger.AddEntry(kind, buf[at+head:], len(value))
}

func (b *batch) push(at int, buf []byte, hash uint64, partBits uint8) {
	b.buf = buf
	b.at = append(b.at, uint32(at))
	b.part = append(b.part, uint32(hash>>(64-partBits)))
}

func (b *batch) checksum() { b.crc = crc32.Checksum(b.entries(), segment.Castagnoli) }

// encodeAppend makes a batch of the entries of an Append. Large values are
// written to a blob file on the way.
func (s *Store) encodeAppend(b *batch, entries []partd.Entry) error {
	// Keys are hashed first: the loop is so short that the processor fetches many
	// from memory at a time.
	hash := b.hash
	for i := range entries {
		hash = append(hash, s.format.Hash(entries[i].Key))
	}
	b.hash = hash
	for i := 0; i < len(entries); i++ {
		if i += b.addShort(entries[i:], b.hash[i:], s.tables.bits, s.blobBytes); i == len(entries) {
			break
		}
		if e := &entries[i]; len(e.Value) > 0 {
			if err := s.encodeEntry(b, segment.KindAppend, e.Key, e.Value, b.hash[i]); err != nil {
				return err
			}
		}
	}
	b.checksum()
	return nil
}

// The least lengths of a key that take more than one byte to write, and of a
// value that take more than two.
const (
	shortKey   = 1 << 7
	shortValue = 1 << (14 - 2)
)

// addShort appends the entries in front of the first that has a long key, or a
// value that is long or empty, and returns how many those are. It does what add
// does, but faster: what each entry changes stays in registers.
func (b *batch) addShort(entries []partd.Entry, hashes []uint64, partBits uint8, blobBytes int) int {
	longest := min(blobBytes, shortValue)
	buf, at, part := b.buf, b.at, b.part
	var sumLo, sumHi, carry uint64
	var bytes int64
	n := 0
	for i := range entries {
		e := &entries[i]
		k, v := len(e.Key), len(e.Value)
		if k >= shortKey || v == 0 || v >= longest {
			break
		}
		n++
		start := len(buf)
		end := start + 3 + k + v
		buf = slices.Grow(buf, 3+k+v)[:end]
		entry := buf[start:]
		first := uint(v)<<2 | uint(segment.KindAppend)
		head := 1
		if first < 0x80 {
			entry[0] = byte(first)
			buf = buf[:end-1]
		} else {
			entry[0], entry[1] = byte(first)|0x80, byte(first>>7)
			head = 2
		}
		hashed := entry[head : head+1+k+v]
		hashed[0] = byte(k)
		copy(hashed[1:], e.Key)
		copy(hashed[1+k:], e.Value)
		h := xxh3.Hash128(hashed)
		sumLo, carry = bits.Add64(sumLo, h.Lo, 0)
		sumHi, _ = bits.Add64(sumHi, h.Hi, carry)
		bytes += int64(v)
		at = append(at, uint32(start))
		part = append(part, uint32(hashes[i]>>(64-partBits)))
	}
	b.buf, b.at, b.part = buf, at, part
	b.ledger.Add(Ledger{Pieces: int64(n), Bytes: bytes, Sum: Sum128{Hi: sumHi, Lo: sumLo}})
	return n
}

// encodeEntry adds an entry to a batch. A large value is written to a blob file.
func (s *Store) encodeEntry(b *batch, kind segment.Kind, key string, value []byte, h uint64) error {
	if len(value) < s.blobBytes {
		b.add(kind, key, value, h, s.tables.bits)
		return nil
	}
	if kind == segment.KindSet {
		b.add(segment.KindSet, key, nil, h, s.tables.bits)
	}
	ref, err := s.blobs.write(value)
	if err != nil {
		return err
	}
	var piece pieceHasher
	// The hasher wants a slice of the key once; blobs are rare and large.
	piece.start([]byte(key))
	piece.write(value)
	piece.addTo(&b.ledger)
	at := len(b.buf)
	buf := segment.AppendEntryHead(b.buf, segment.KindBlob, key, segment.BlobRefLen)
	b.push(at, ref.Append(buf), h, s.tables.bits)
	b.blobs = append(b.blobs, ref)
	b.maxBlobNo = max(b.maxBlobNo, ref.File)
	return nil
}

func (s *Store) encode(b *batch, op operation) error {
	if entries, ok := op.(appendOp); ok {
		return s.encodeAppend(b, entries)
	}
	err := op.each(func(kind segment.Kind, key string, value []byte) error {
		return s.encodeEntry(b, kind, key, value, s.format.Hash(key))
	})
	b.checksum()
	return err
}

// inlineLen returns at least the length of the batch that entries make, and of
// what it notes of them.
func (s *Store) inlineLen(entries []partd.Entry) int64 {
	n := int64(batchPrefix)
	for i := range entries {
		v := len(entries[i].Value)
		if v >= s.blobBytes {
			v = segment.BlobRefLen
		}
		n += int64(len(entries[i].Key)) + int64(v) + 8 + perEntry
	}
	return n
}

// BatchBytes returns half the size at which a batch becomes a segment of its own:
// merging thousands of small segments would take many times the work.
func (s *Store) BatchBytes() int { return s.maxBatch / 2 }

// takeBatch waits for one of the few batches.
func (s *Store) takeBatch(ctx context.Context) (*batch, error) {
	b, err := canceled.Receive(ctx, s.batches)
	if err == nil {
		b.reset()
	}
	return b, err
}

// putBatch gives a batch back, or a new one if that grew beyond its share of
// memory.
func (s *Store) putBatch(b *batch) {
	if b.memory() > s.maxBatch+s.maxBatch/2 {
		b = &batch{}
	}
	s.batches <- b
}
