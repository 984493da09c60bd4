package logstore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// layout says where things are in a segment, which is its ranges one after the
// other, then the runs of its hot keys, then a footer.
type layout struct {
	start int64
	end   int64 // after the footer
	bits  uint8
	off   []uint32 // 2^bits+1 offsets from start: where each range begins, and where the last ends
	raw   []uint32 // 2^bits lengths of the ranges without compression; nil if nothing is compressed
	hot   []hotRun // sorted by hash

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

const (
	blockHeaderLen = 12
	blockLen       = 64 << 10 // the most that a block holds, uncompressed
	maxHotKey      = 256      // a longer key gets no run of its own, so that footers stay small

	segmentMagic    = "partdSEG"
	footerTailLen   = 8 + 4 + 4 // magic, length of the footer before, CRC
	footerFixedLen  = 8 + 4 + 1 + 1 + 2 + footerLedgerLen
	footerLedgerLen = 56
	maxFooter       = 64 << 20
)

// rangeOf returns the segment's range that a hash belongs to.
func (g *layout) rangeOf(hash uint64) int { return rangeOf(hash, g.bits) }

// length is what the segment takes of its file.
func (g *layout) length() int64 { return g.end - g.start }

// offsetMemory returns what is known of ranges takes in memory.
func (g *layout) offsetMemory() int64 { return 4 * int64(len(g.off)+len(g.raw)) }

// memory returns what the segment takes in memory.
func (g *layout) memory() int64 {
	return int64(cap(g.off)+cap(g.raw))*4 + 200 + g.hotMemory()
}

func (g *layout) hotMemory() (n int64) {
	for i := range g.hot {
		n += 64 + int64(len(g.hot[i].key))
	}
	return n
}

// unpacked returns about how long the segment would be without compression.
// It is computed once, so it needs a lock.
func (g *layout) unpacked() int64 {
	if g.plainLen > 0 {
		return g.plainLen
	}
	n := g.length()
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
func (g *layout) hotFor(hash uint64, key []byte) *hotRun {
	i, _ := slices.BinarySearchFunc(g.hot, hash, func(r hotRun, h uint64) int { return cmp.Compare(r.hash, h) })
	for ; i < len(g.hot) && g.hot[i].hash == hash; i++ {
		if bytes.Equal(g.hot[i].key, key) {
			return &g.hot[i]
		}
	}
	return nil
}

// hotIn returns the runs of keys whose hashes are in an interval.
func (g *layout) hotIn(lo, hi uint64) []hotRun {
	first, _ := slices.BinarySearchFunc(g.hot, lo, func(h hotRun, lo uint64) int {
		return cmp.Or(cmp.Compare(h.hash, lo), 1)
	})
	end := first
	for end < len(g.hot) && g.hot[end].hash <= hi {
		end++
	}
	return g.hot[first:end]
}

// encodeFooter returns the footer, which goes to an offset of the file. The
// ledger is encoded already.
func (g *layout) encodeFooter(f *file, ledger []byte, at int64) []byte {
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
	b = append(b, ledger...)
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
	return le.AppendUint32(b, f.salted(f.number, at, b))
}

// readFooter reads the layout, and the ledger as it is encoded, of the segment
// whose footer ends at end. The segment before it ends where it starts.
func readFooter(f *file, end int64) (g layout, ledger []byte, err error) {
	le := binary.LittleEndian
	tail := make([]byte, footerTailLen)
	if end < dataHeaderLen+footerTailLen {
		return g, nil, f.corrupt(end, errors.New("no segment can end here"))
	}
	if err := f.readFull(tail, end-footerTailLen); err != nil {
		return g, nil, err
	}
	n := int64(le.Uint32(tail[8:]))
	if string(tail[:8]) != segmentMagic || n < footerFixedLen || n > maxFooter || n > end-dataHeaderLen-footerTailLen {
		return g, nil, f.corrupt(end-footerTailLen, errors.New("the end of a segment should be here"))
	}
	b := make([]byte, n+footerTailLen)
	at := end - int64(len(b))
	if err := f.readFull(b, at); err != nil {
		return g, nil, err
	}
	if f.salted(f.number, at, b[:len(b)-4]) != le.Uint32(b[len(b)-4:]) {
		return g, nil, f.corrupt(at, errors.New("the checksum of a segment's footer does not match"))
	}
	if g, ledger, err = parseFooter(b[:n], at); err != nil {
		return g, nil, f.corrupt(at, err)
	}
	g.end = end
	return g, ledger, nil
}

// parseFooter decodes a footer that begins at an offset of its file.
func parseFooter(b []byte, at int64) (g layout, ledger []byte, err error) {
	bad := errors.New("a segment's footer makes no sense")
	le := binary.LittleEndian
	if len(b) < footerFixedLen {
		return g, nil, bad
	}
	g.start, g.bits = int64(le.Uint64(b)), b[12]
	hot := le.Uint32(b[8:])
	hasRaw := b[13]
	ledger = b[16:footerFixedLen]
	most := int64(le.Uint64(ledger[8:])) // bytes of all pieces
	b = b[footerFixedLen:]
	if g.bits > 16 || hasRaw > 1 || g.start < dataHeaderLen || g.start > at {
		return g, nil, bad
	}
	words := 1<<g.bits + 1
	if hasRaw == 1 {
		words += 1 << g.bits
	}
	if len(b) < 4*words {
		return g, nil, bad
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
		return g, nil, bad
	}
	for range hot {
		if len(b) < 28 {
			return g, nil, bad
		}
		flags, n := le.Uint16(b[24:]), int(le.Uint16(b[26:]))
		h := hotRun{hash: le.Uint64(b), off: le.Uint32(b[8:]), n: le.Uint32(b[12:]), bytes: int64(le.Uint64(b[16:])), reset: flags&1 != 0, gone: flags&2 != 0}
		if b = b[28:]; n > len(b) || uint64(h.off)+uint64(h.n) > end || h.bytes < 0 || h.bytes > most {
			return g, nil, bad
		}
		h.key = bytes.Clone(b[:n])
		b = b[n:]
		g.hot = append(g.hot, h)
	}
	if len(b) > 0 {
		return g, nil, fmt.Errorf("a segment's footer has %d bytes too many", len(b))
	}
	return g, ledger, nil
}

// coarser returns the segment with half as many ranges.
func (g *layout) coarser() layout {
	c := *g
	c.bits--
	c.off = make([]uint32, 1<<c.bits+1)
	for i := range c.off {
		c.off[i] = g.off[2*i]
	}
	if g.raw != nil {
		c.raw = make([]uint32, 1<<c.bits)
		for i := range c.raw {
			c.raw[i] = g.raw[2*i] + g.raw[2*i+1]
		}
	}
	return c
}
