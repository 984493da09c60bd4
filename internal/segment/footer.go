package segment

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Layout says where things are in a segment, which is its ranges one after the
// other, then the runs of its hot keys, then a footer.
type Layout struct {
	Start int64
	End   int64 // after the footer
	Bits  uint8
	Off   []uint32 // 2^bits+1 offsets from start: where each range begins, and where the last ends
	Raw   []uint32 // 2^bits lengths of the ranges without compression; nil if nothing is compressed
	Hot   []HotRun // sorted by hash

	plainLen int64 // see unpacked; 0 where it was not computed
}

// HotRun is a run of entries of one key alone.
type HotRun struct {
	Hash  uint64
	Off   uint32 // from the start of the segment
	Len   uint32
	Bytes int64 // length of the value that the entries make
	Reset bool  // it begins with a set or delete of what earlier segments hold
	Gone  bool  // and what is left is no key
	Key   []byte
}

const (
	blockHeaderLen = 12
	blockLen       = 64 << 10 // the most that a block holds, uncompressed
	MaxHotKey      = 256      // a longer key gets no run of its own, so that footers stay small

	segmentMagic   = "partdSEG"
	footerTailLen  = 8 + 4 + 4 // magic, length of the footer before, CRC
	footerFixedLen = 8 + 4 + 1 + 1 + 2 + LedgerLen
	LedgerLen      = 56
	maxFooter      = 64 << 20
)

// RangeOf returns the segment's range that a hash belongs to.
func (g *Layout) RangeOf(hash uint64) int { return Range(hash, g.Bits) }

// Length is what the segment takes of its file.
func (g *Layout) Length() int64 { return g.End - g.Start }

// OffsetMemory returns what is known of ranges takes in memory.
func (g *Layout) OffsetMemory() int64 { return 4 * int64(len(g.Off)+len(g.Raw)) }

// Memory returns what the segment takes in memory.
func (g *Layout) Memory() int64 {
	return int64(cap(g.Off)+cap(g.Raw))*4 + 200 + g.HotMemory()
}

func (g *Layout) HotMemory() (n int64) {
	for i := range g.Hot {
		n += 64 + int64(len(g.Hot[i].Key))
	}
	return n
}

// Unpacked returns about how long the segment would be without compression.
// It is computed once, so it needs a lock.
func (g *Layout) Unpacked() int64 {
	if g.plainLen > 0 {
		return g.plainLen
	}
	n := g.Length()
	if g.Raw == nil {
		return n
	}
	n -= int64(g.Off[len(g.Off)-1])
	for _, r := range g.Raw {
		n += int64(r)
	}
	for i := range g.Hot {
		// Its length is not known. That of the value is, but may be of blobs.
		const maxFactor = 64
		n += max(min(g.Hot[i].Bytes, maxFactor*int64(g.Hot[i].Len))-int64(g.Hot[i].Len), 0)
	}
	g.plainLen = n
	return n
}

// CompareHot orders runs by hash and key.
func CompareHot(a, b HotRun) int {
	return cmp.Or(cmp.Compare(a.Hash, b.Hash), bytes.Compare(a.Key, b.Key))
}

// HotFor returns the run of a key, if the segment has one.
func (g *Layout) HotFor(hash uint64, key []byte) *HotRun {
	i, _ := slices.BinarySearchFunc(g.Hot, hash, func(r HotRun, h uint64) int { return cmp.Compare(r.Hash, h) })
	for ; i < len(g.Hot) && g.Hot[i].Hash == hash; i++ {
		if bytes.Equal(g.Hot[i].Key, key) {
			return &g.Hot[i]
		}
	}
	return nil
}

// HotIn returns the runs of keys whose hashes are in an interval.
func (g *Layout) HotIn(lo, hi uint64) []HotRun {
	first, _ := slices.BinarySearchFunc(g.Hot, lo, func(h HotRun, lo uint64) int {
		return cmp.Or(cmp.Compare(h.Hash, lo), 1)
	})
	end := first
	for end < len(g.Hot) && g.Hot[end].Hash <= hi {
		end++
	}
	return g.Hot[first:end]
}

// EncodeFooter returns the footer, which goes to an offset of the file. The
// ledger is encoded already.
func (g *Layout) EncodeFooter(f *File, ledger []byte, at int64) []byte {
	le := binary.LittleEndian
	var b []byte
	b = le.AppendUint64(b, uint64(g.Start))
	b = le.AppendUint32(b, uint32(len(g.Hot)))
	b = append(b, g.Bits)
	if g.Raw != nil {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = append(b, 0, 0)
	b = append(b, ledger...)
	for _, o := range g.Off {
		b = le.AppendUint32(b, o)
	}
	for _, r := range g.Raw {
		b = le.AppendUint32(b, r)
	}
	for i := range g.Hot {
		h := &g.Hot[i]
		b = le.AppendUint64(b, h.Hash)
		b = le.AppendUint32(b, h.Off)
		b = le.AppendUint32(b, h.Len)
		b = le.AppendUint64(b, uint64(h.Bytes))
		var flags uint16
		if h.Reset {
			flags |= 1
		}
		if h.Gone {
			flags |= 2
		}
		b = le.AppendUint16(b, flags)
		b = le.AppendUint16(b, uint16(len(h.Key)))
		b = append(b, h.Key...)
	}
	n := len(b)
	b = append(b, segmentMagic...)
	b = le.AppendUint32(b, uint32(n))
	return le.AppendUint32(b, f.Salted(f.Number, at, b))
}

// ReadFooter reads the layout, and the ledger as it is encoded, of the segment
// whose footer ends at end. The segment before it ends where it starts.
func ReadFooter(f *File, end int64) (g Layout, ledger []byte, err error) {
	le := binary.LittleEndian
	tail := make([]byte, footerTailLen)
	if end < HeaderLen+footerTailLen {
		return g, nil, f.Corrupt(end, errors.New("no segment can end here"))
	}
	if err := f.ReadFull(tail, end-footerTailLen); err != nil {
		return g, nil, err
	}
	n := int64(le.Uint32(tail[8:]))
	if string(tail[:8]) != segmentMagic || n < footerFixedLen || n > maxFooter || n > end-HeaderLen-footerTailLen {
		return g, nil, f.Corrupt(end-footerTailLen, errors.New("the end of a segment should be here"))
	}
	b := make([]byte, n+footerTailLen)
	at := end - int64(len(b))
	if err := f.ReadFull(b, at); err != nil {
		return g, nil, err
	}
	if f.Salted(f.Number, at, b[:len(b)-4]) != le.Uint32(b[len(b)-4:]) {
		return g, nil, f.Corrupt(at, errors.New("the checksum of a segment's footer does not match"))
	}
	if g, ledger, err = parseFooter(b[:n], at); err != nil {
		return g, nil, f.Corrupt(at, err)
	}
	g.End = end
	return g, ledger, nil
}

// parseFooter decodes a footer that begins at an offset of its file.
func parseFooter(b []byte, at int64) (g Layout, ledger []byte, err error) {
	bad := errors.New("a segment's footer makes no sense")
	le := binary.LittleEndian
	if len(b) < footerFixedLen {
		return g, nil, bad
	}
	g.Start, g.Bits = int64(le.Uint64(b)), b[12]
	hot := le.Uint32(b[8:])
	hasRaw := b[13]
	ledger = b[16:footerFixedLen]
	maxBytes := int64(le.Uint64(ledger[8:])) // bytes of all pieces
	b = b[footerFixedLen:]
	if g.Bits > 16 || hasRaw > 1 || g.Start < HeaderLen || g.Start > at {
		return g, nil, bad
	}
	words := 1<<g.Bits + 1
	if hasRaw == 1 {
		words += 1 << g.Bits
	}
	if len(b) < 4*words {
		return g, nil, bad
	}
	all := make([]uint32, words)
	for i := range all {
		all[i] = le.Uint32(b[4*i:])
	}
	b = b[4*words:]
	g.Off = all[:1<<g.Bits+1]
	if hasRaw == 1 {
		g.Raw = all[1<<g.Bits+1:]
	}
	end := uint64(at - g.Start)
	if !slices.IsSorted(g.Off) || uint64(g.Off[1<<g.Bits]) > end {
		return g, nil, bad
	}
	for range hot {
		if len(b) < 28 {
			return g, nil, bad
		}
		flags, n := le.Uint16(b[24:]), int(le.Uint16(b[26:]))
		h := HotRun{Hash: le.Uint64(b), Off: le.Uint32(b[8:]), Len: le.Uint32(b[12:]), Bytes: int64(le.Uint64(b[16:])), Reset: flags&1 != 0, Gone: flags&2 != 0}
		if b = b[28:]; n > len(b) || uint64(h.Off)+uint64(h.Len) > end || h.Bytes < 0 || h.Bytes > maxBytes {
			return g, nil, bad
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

// Coarser returns the segment with half as many ranges.
func (g *Layout) Coarser() Layout {
	c := *g
	c.Bits--
	c.Off = make([]uint32, 1<<c.Bits+1)
	for i := range c.Off {
		c.Off[i] = g.Off[2*i]
	}
	if g.Raw != nil {
		c.Raw = make([]uint32, 1<<c.Bits)
		for i := range c.Raw {
			c.Raw[i] = g.Raw[2*i] + g.Raw[2*i+1]
		}
	}
	return c
}
