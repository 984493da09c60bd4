package logstore

import "github.com/go-partd/partd/internal/engine/segment"

// scanBits returns the number of hash bits that select a range of the scan; partitions consist of
// such ranges. Segments and tables have ranges of different widths. To load a partition that is
// only a part of a segment's range, the scan must read that whole range. If this would waste many
// bytes, scanBits chooses wider ranges, of at most limit bytes.
func (v *view) scanBits(limit int64) uint8 {
	var total int64
	var sizes [64]int64 // bytes of the sources, by their number of bits
	add := func(bits uint8, n int64) {
		sizes[bits] += n
		total += n
	}
	for _, seg := range v.segments {
		add(seg.Bits, seg.rangesSize(0, len(seg.Offsets)-1))
	}
	for i := range v.tables {
		for _, p := range v.tables[i].parts {
			add(v.tables[i].t.bits, int64(p.size))
		}
	}
	bits := v.finestBits()
	for ; bits > 0 && total>>(bits-1) <= limit; bits-- {
		var wider int64
		for b, n := range sizes[:bits] {
			wider += n >> b
		}
		if wider <= max(maxBatchBytes, total>>bits)/4 {
			break
		}
	}
	return bits
}

// rangeSize returns the approximate size of range i of the scan, without hot keys.
func (sc *scanner) rangeSize(i int) int64 {
	var n int64
	lo, hi := segment.HashBounds(i, i+1, sc.bits)
	for _, seg := range sc.v.segments {
		n += seg.rangeSize(i, sc.bits)
	}
	for i := range sc.v.tables {
		t := &sc.v.tables[i]
		for p := segment.RangeIndex(lo, t.t.bits); p <= segment.RangeIndex(hi, t.t.bits); p++ {
			n += int64(t.parts[p-t.base].size) >> (max(sc.bits, t.t.bits) - t.t.bits)
		}
	}
	return n
}
