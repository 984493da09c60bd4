package logstore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// A segment is what one table became: its ranges one after the other, then the
// runs of its hot keys, then a footer.
type segment struct {
	file   *dataFile
	start  int64
	end    int64 // after the footer
	bits   uint8
	off    []uint32 // 2^bits+1 offsets from start: where each range begins, and where the last ends
	raw    []uint32 // 2^bits lengths of the ranges without compression; nil if nothing is compressed
	hot    []hotRun // sorted by hash
	ledger Ledger

	plainLen int64 // see unpacked; 0 where it was not computed
}

// hotRun is a run of entries of one key alone.
type hotRun struct {
	hash  uint64
	off   uint32 // from the start of the segment
	n     uint32
	bytes int64 // length of the value that the entries make
	reset bool  // it begins with a set or delete of what earlier segments hold
	gone  bool  // and what is left is no key
	key   []byte
}

// Codecs of blocks, as stored.
const (
	codecNone = uint32(None)
	codecS2   = uint32(S2)
	codecZstd = uint32(Zstd)
)

const (
	blockHeaderLen = 12
	blockLen       = 64 << 10 // the most that a block holds, uncompressed
	maxHotKey      = 256      // a longer key gets no run of its own, so that footers stay small

	segmentMagic   = "partdSEG"
	footerTailLen  = 8 + 4 + 4 // magic, length of the footer before, CRC
	footerFixedLen = 8 + 4 + 1 + 1 + 2 + ledgerLen
	maxFooter      = 64 << 20
)

// rangeOf returns the segment's range that a hash belongs to.
func (g *segment) rangeOf(hash uint64) int { return int(hash >> 1 >> (63 - g.bits)) }

// memory returns what the segment takes in memory.
func (g *segment) memory() int64 {
	return int64(cap(g.off)+cap(g.raw))*4 + 200 + g.hotMemory()
}

func (g *segment) hotMemory() (n int64) {
	for i := range g.hot {
		n += 64 + int64(len(g.hot[i].key))
	}
	return n
}

// unpacked returns about how long the segment would be without compression.
// Store.mu is held.
func (g *segment) unpacked() int64 {
	if g.plainLen > 0 {
		return g.plainLen
	}
	n := g.end - g.start
	if g.raw == nil {
		return n
	}
	n -= int64(g.off[len(g.off)-1])
	for _, r := range g.raw {
		n += int64(r)
	}
	for i := range g.hot {
		// Its length is not known. That of the value is, but may be of blobs.
		const most = 64
		n += max(min(g.hot[i].bytes, most*int64(g.hot[i].n))-int64(g.hot[i].n), 0)
	}
	g.plainLen = n
	return n
}

// compareHot orders runs by hash and key.
func compareHot(a, b hotRun) int {
	return cmp.Or(cmp.Compare(a.hash, b.hash), bytes.Compare(a.key, b.key))
}

// hotFor returns the run of a key, if the segment has one.
func (g *segment) hotFor(hash uint64, key []byte) *hotRun {
	i, _ := slices.BinarySearchFunc(g.hot, hash, func(r hotRun, h uint64) int { return cmp.Compare(r.hash, h) })
	for ; i < len(g.hot) && g.hot[i].hash == hash; i++ {
		if bytes.Equal(g.hot[i].key, key) {
			return &g.hot[i]
		}
	}
	return nil
}

// hotIn returns the runs of keys whose hashes are in an interval.
func (g *segment) hotIn(lo, hi uint64) []hotRun {
	first, _ := slices.BinarySearchFunc(g.hot, lo, func(h hotRun, lo uint64) int {
		return cmp.Or(cmp.Compare(h.hash, lo), 1)
	})
	end := first
	for end < len(g.hot) && g.hot[end].hash <= hi {
		end++
	}
	return g.hot[first:end]
}

// encodeFooter returns the footer, which goes to an offset of the file.
func (g *segment) encodeFooter(seed uint64, at int64) []byte {
	le := binary.LittleEndian
	var b []byte
	b = le.AppendUint64(b, uint64(g.start))
	b = le.AppendUint32(b, uint32(len(g.hot)))
	b = append(b, g.bits)
	if g.raw != nil {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = append(b, 0, 0)
	b = g.ledger.append(b)
	for _, o := range g.off {
		b = le.AppendUint32(b, o)
	}
	for _, r := range g.raw {
		b = le.AppendUint32(b, r)
	}
	for i := range g.hot {
		h := &g.hot[i]
		b = le.AppendUint64(b, h.hash)
		b = le.AppendUint32(b, h.off)
		b = le.AppendUint32(b, h.n)
		b = le.AppendUint64(b, uint64(h.bytes))
		var flags uint16
		if h.reset {
			flags |= 1
		}
		if h.gone {
			flags |= 2
		}
		b = le.AppendUint16(b, flags)
		b = le.AppendUint16(b, uint16(len(h.key)))
		b = append(b, h.key...)
	}
	n := len(b)
	b = append(b, segmentMagic...)
	b = le.AppendUint32(b, uint32(n))
	return le.AppendUint32(b, crc32.Update(salt(seed, g.file.number, at), castagnoli, b))
}

// readSegment reads the segment whose footer ends at end. The one before it
// ends where it starts.
func readSegment(f *dataFile, end int64, seed uint64) (*segment, error) {
	le := binary.LittleEndian
	tail := make([]byte, footerTailLen)
	if end < dataHeaderLen+footerTailLen {
		return nil, f.corrupt(end, errors.New("no segment can end here"))
	}
	if err := f.readFull(tail, end-footerTailLen); err != nil {
		return nil, err
	}
	n := int64(le.Uint32(tail[8:]))
	if string(tail[:8]) != segmentMagic || n < footerFixedLen || n > maxFooter || n > end-dataHeaderLen-footerTailLen {
		return nil, f.corrupt(end-footerTailLen, errors.New("the end of a segment should be here"))
	}
	b := make([]byte, n+footerTailLen)
	at := end - int64(len(b))
	if err := f.readFull(b, at); err != nil {
		return nil, err
	}
	if crc32.Update(salt(seed, f.number, at), castagnoli, b[:len(b)-4]) != le.Uint32(b[len(b)-4:]) {
		return nil, f.corrupt(at, errors.New("the checksum of a segment's footer does not match"))
	}
	g, err := parseFooter(b[:n], at)
	if err != nil {
		return nil, f.corrupt(at, err)
	}
	g.file, g.end = f, end
	return g, nil
}

// parseFooter decodes a footer that begins at an offset of its file.
func parseFooter(b []byte, at int64) (*segment, error) {
	bad := errors.New("a segment's footer makes no sense")
	le := binary.LittleEndian
	if len(b) < footerFixedLen {
		return nil, bad
	}
	g := &segment{start: int64(le.Uint64(b)), bits: b[12]}
	hot := le.Uint32(b[8:])
	hasRaw := b[13]
	g.ledger.parse(b[16:])
	b = b[footerFixedLen:]
	if g.bits > 16 || hasRaw > 1 || g.start < dataHeaderLen || g.start > at {
		return nil, bad
	}
	words := 1<<g.bits + 1
	if hasRaw == 1 {
		words += 1 << g.bits
	}
	if len(b) < 4*words {
		return nil, bad
	}
	all := make([]uint32, words)
	for i := range all {
		all[i] = le.Uint32(b[4*i:])
	}
	b = b[4*words:]
	g.off = all[:1<<g.bits+1]
	if hasRaw == 1 {
		g.raw = all[1<<g.bits+1:]
	}
	end := uint64(at - g.start)
	if !slices.IsSorted(g.off) || uint64(g.off[1<<g.bits]) > end {
		return nil, bad
	}
	for range hot {
		if len(b) < 28 {
			return nil, bad
		}
		flags, n := le.Uint16(b[24:]), int(le.Uint16(b[26:]))
		h := hotRun{hash: le.Uint64(b), off: le.Uint32(b[8:]), n: le.Uint32(b[12:]), bytes: int64(le.Uint64(b[16:])), reset: flags&1 != 0, gone: flags&2 != 0}
		if b = b[28:]; n > len(b) || uint64(h.off)+uint64(h.n) > end || h.bytes < 0 || h.bytes > g.ledger.Bytes {
			return nil, bad
		}
		h.key = bytes.Clone(b[:n])
		b = b[n:]
		g.hot = append(g.hot, h)
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("a segment's footer has %d bytes too many", len(b))
	}
	return g, nil
}
