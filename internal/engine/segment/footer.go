package segment

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Layout describes a segment, which consists of ranges, runs of hot keys, and a footer.
type Layout struct {
	Start   int64
	End     int64    // end of the footer
	Bits    uint8    // the segment has 2^Bits ranges of key hashes
	Offsets []uint32 // offsets from Start: the start of each range, then the end of the last range
	RawLens []uint32 // uncompressed length of each range; nil if the segment is not compressed
	Hot     []HotRun // sorted with CompareHot

	uncompressedLen int64 // cached by UncompressedLen; 0 if unknown
}

// HotRun locates the entries of a hot key. A hot key has so much data in the segment that its entries
// are stored apart from all others.
type HotRun struct {
	Hash    uint64
	Off     uint32 // offset from the start of the segment
	Len     uint32
	Bytes   int64 // length of the part of the key's value that the run contains
	Resets  bool  // the run contains a Set or Delete, which discards earlier segments' values
	Deleted bool  // the key does not exist after all entries in the run are applied
	Key     []byte
}

const (
	blockHeaderLen = 12
	blockLen       = 64 << 10 // maximum uncompressed length of a block
	MaxHotKey      = 256      // maximum length of a hot key; footers contain the hot keys and must stay small

	segmentMagic   = "partdSEG"
	footerTailLen  = 8 + 4 + 4 // magic, length of the footer without this tail, CRC
	footerFixedLen = 8 + 4 + 1 + 1 + 2 + LedgerLen
	LedgerLen      = 56
	maxFooter      = 64 << 20
)

// RangeIndex returns the index of the range that contains hash.
func (g *Layout) RangeIndex(hash uint64) int { return RangeIndex(hash, g.Bits) }

// StoredLen returns the segment's length in its file.
func (g *Layout) StoredLen() int64 { return g.End - g.Start }

// OffsetMemoryUsed returns the memory that Offsets and RawLens use, in bytes.
func (g *Layout) OffsetMemoryUsed() int64 { return 4 * int64(len(g.Offsets)+len(g.RawLens)) }

// MemoryUsed returns the memory that the layout uses, in bytes.
func (g *Layout) MemoryUsed() int64 {
	return int64(cap(g.Offsets)+cap(g.RawLens))*4 + 200 + g.HotMemoryUsed()
}

func (g *Layout) HotMemoryUsed() (n int64) {
	for i := range g.Hot {
		n += 64 + int64(len(g.Hot[i].Key))
	}
	return n
}

// UncompressedLen estimates the length that the segment would have without compression. It
// must not be called concurrently, because it caches the result.
func (g *Layout) UncompressedLen() int64 {
	if g.uncompressedLen > 0 {
		return g.uncompressedLen
	}
	n := g.StoredLen()
	if g.RawLens == nil {
		return n
	}
	n -= int64(g.Offsets[len(g.Offsets)-1])
	for _, r := range g.RawLens {
		n += int64(r)
	}
	for i := range g.Hot {
		// The run's uncompressed length is unknown, so use the value's length. That length includes
		// large values in blob files, so use at most maxFactor times Len.
		const maxFactor = 64
		n += max(min(g.Hot[i].Bytes, maxFactor*int64(g.Hot[i].Len))-int64(g.Hot[i].Len), 0)
	}
	g.uncompressedLen = n
	return n
}

// CompareHot compares runs by hash, then by key.
func CompareHot(a, b HotRun) int {
	return cmp.Or(cmp.Compare(a.Hash, b.Hash), bytes.Compare(a.Key, b.Key))
}

// FindHot returns the run of key in runs, which must be sorted with CompareHot, or nil if key is
// not hot.
func FindHot(runs []HotRun, hash uint64, key []byte) *HotRun {
	i, _ := slices.BinarySearchFunc(runs, hash, func(r HotRun, h uint64) int { return cmp.Compare(r.Hash, h) })
	for ; i < len(runs) && runs[i].Hash == hash; i++ {
		if bytes.Equal(runs[i].Key, key) {
			return &runs[i]
		}
	}
	return nil
}

// HotBetween returns the runs of the hot keys with hashes from lo up to and including hi.
func (g *Layout) HotBetween(lo, hi uint64) []HotRun {
	first, _ := slices.BinarySearchFunc(g.Hot, lo, func(h HotRun, lo uint64) int {
		return cmp.Or(cmp.Compare(h.Hash, lo), 1)
	})
	end := first
	for end < len(g.Hot) && g.Hot[end].Hash <= hi {
		end++
	}
	return g.Hot[first:end]
}

// EncodeFooter returns the footer for offset off in file f. ledger is an encoded Ledger.
func (g *Layout) EncodeFooter(f *File, ledger []byte, off int64) []byte {
	le := binary.LittleEndian
	var b []byte
	b = le.AppendUint64(b, uint64(g.Start))
	b = le.AppendUint32(b, uint32(len(g.Hot)))
	b = append(b, g.Bits)
	if g.RawLens != nil {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = append(b, 0, 0)
	b = append(b, ledger...)
	b, _ = binary.Append(b, le, g.Offsets) // never fails for a slice of numbers
	b, _ = binary.Append(b, le, g.RawLens)
	for i := range g.Hot {
		h := &g.Hot[i]
		b = le.AppendUint64(b, h.Hash)
		b = le.AppendUint32(b, h.Off)
		b = le.AppendUint32(b, h.Len)
		b = le.AppendUint64(b, uint64(h.Bytes))
		var flags uint16
		if h.Resets {
			flags |= 1
		}
		if h.Deleted {
			flags |= 2
		}
		b = le.AppendUint16(b, flags)
		b = le.AppendUint16(b, uint16(len(h.Key)))
		b = append(b, h.Key...)
	}
	n := len(b)
	b = append(b, segmentMagic...)
	b = le.AppendUint32(b, uint32(n))
	return le.AppendUint32(b, f.SaltedCRC(f.Number, off, b))
}

// ReadFooter returns the layout and the encoded ledger of the segment that ends at end.
func ReadFooter(f *File, end int64) (g Layout, ledger []byte, err error) {
	le := binary.LittleEndian
	tail := make([]byte, footerTailLen)
	if end < HeaderLen+footerTailLen {
		return g, nil, f.Corrupt(end, errors.New("a segment should end here, but the file is too short to contain one"))
	}
	if err := f.ReadFull(tail, end-footerTailLen); err != nil {
		return g, nil, err
	}
	n := int64(le.Uint32(tail[8:]))
	if string(tail[:8]) != segmentMagic || n < footerFixedLen || n > maxFooter || n > end-HeaderLen-footerTailLen {
		return g, nil, f.Corrupt(end-footerTailLen, errors.New("a segment should end here, but there is no valid footer"))
	}
	b := make([]byte, n+footerTailLen)
	off := end - int64(len(b))
	if err := f.ReadFull(b, off); err != nil {
		return g, nil, err
	}
	if f.SaltedCRC(f.Number, off, b[:len(b)-4]) != le.Uint32(b[len(b)-4:]) {
		return g, nil, f.Corrupt(off, errors.New("a segment's footer fails its checksum"))
	}
	g, ledger, err = parseFooter(b[:n], off)
	if err != nil {
		return g, nil, f.Corrupt(off, err)
	}
	g.End = end
	return g, ledger, nil
}

func parseFooter(b []byte, off int64) (g Layout, ledger []byte, err error) {
	errInvalid := errors.New("a segment's footer is invalid")
	le := binary.LittleEndian
	if len(b) < footerFixedLen {
		return g, nil, errInvalid
	}
	g.Start, g.Bits = int64(le.Uint64(b)), b[12]
	hot := le.Uint32(b[8:])
	hasRaw := b[13]
	ledger = b[16:footerFixedLen]
	maxBytes := int64(le.Uint64(ledger[8:])) // the Ledger's Bytes
	b = b[footerFixedLen:]
	if g.Bits > 16 || hasRaw > 1 || g.Start < HeaderLen || g.Start > off {
		return g, nil, errInvalid
	}
	words := 1<<g.Bits + 1
	if hasRaw == 1 {
		words += 1 << g.Bits
	}
	if len(b) < 4*words {
		return g, nil, errInvalid
	}
	offsets := make([]uint32, words)
	_, _ = binary.Decode(b, le, offsets) // never fails, because b is long enough
	b = b[4*words:]
	g.Offsets = offsets[:1<<g.Bits+1]
	if hasRaw == 1 {
		g.RawLens = offsets[1<<g.Bits+1:]
	}
	end := uint64(off - g.Start)
	if !slices.IsSorted(g.Offsets) || uint64(g.Offsets[1<<g.Bits]) > end {
		return g, nil, errInvalid
	}
	for range hot {
		if len(b) < 28 {
			return g, nil, errInvalid
		}
		flags, n := le.Uint16(b[24:]), int(le.Uint16(b[26:]))
		h := HotRun{Hash: le.Uint64(b), Off: le.Uint32(b[8:]), Len: le.Uint32(b[12:]), Bytes: int64(le.Uint64(b[16:])), Resets: flags&1 != 0, Deleted: flags&2 != 0}
		b = b[28:]
		if n > len(b) || uint64(h.Off)+uint64(h.Len) > end || h.Bytes < 0 || h.Bytes > maxBytes {
			return g, nil, errInvalid
		}
		h.Key = bytes.Clone(b[:n])
		b = b[n:]
		g.Hot = append(g.Hot, h)
	}
	if len(b) > 0 {
		return g, nil, fmt.Errorf("a segment's footer has %d extra bytes", len(b))
	}
	return g, ledger, nil
}

// Coarser returns a copy of the layout with half as many ranges.
func (g *Layout) Coarser() Layout {
	c := *g
	c.Bits--
	c.Offsets = make([]uint32, 1<<c.Bits+1)
	for i := range c.Offsets {
		c.Offsets[i] = g.Offsets[2*i]
	}
	if g.RawLens != nil {
		c.RawLens = make([]uint32, 1<<c.Bits)
		for i := range c.RawLens {
			c.RawLens[i] = g.RawLens[2*i] + g.RawLens[2*i+1]
		}
	}
	return c
}
