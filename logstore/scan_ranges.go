package logstore

import "github.com/go-partd/partd/internal/segment"

// scanBits returns the bits of the ranges that partitions of a scan consist of.
// Sources have ranges of several widths, and one that is wider than a partition is
// read whole for each partition that it touches. So where much would be read in
// vain, ranges are wider than the finest, as long as one has no more than limit
// bytes.
func (v *view) scanBits(limit int64) uint8 {
	var total int64
	var sizes [64]int64 // by bits
	add := func(bits uint8, n int64) {
		sizes[bits] += n
		total += n
	}
	for _, g := range v.segments {
		add(g.Bits, g.rangesSize(0, len(g.Off)-1))
	}
	for i := range v.tables {
		for _, p := range v.tables[i].parts {
			add(v.tables[i].t.bits, int64(p.size))
		}
	}
	bits := v.bits()
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

// rangesSize returns how many bytes of entries several ranges hold.
func (g *storedSegment) rangesSize(first, end int) int64 {
	if g.Raw == nil {
		return int64(g.Off[end] - g.Off[first])
	}
	var n int64
	for _, raw := range g.Raw[first:end] {
		n += int64(raw)
	}
	return n
}

// rangeSize returns about how many bytes of entries the segment has of one of 2^bits
// ranges: a wider range of its own is taken to spread evenly.
func (g *storedSegment) rangeSize(i int, bits uint8) int64 {
	lo, hi := segment.Bounds(i, i+1, bits)
	return g.rangesSize(g.RangeOf(lo), g.RangeOf(hi)+1) >> (max(bits, g.Bits) - g.Bits)
}

// rangeSize returns about how many bytes of entries one range holds, those of hot
// keys left out. Where a source does not spread evenly, loading ends at the limit.
func (sc *scanner) rangeSize(i int) int64 {
	var n int64
	lo, hi := segment.Bounds(i, i+1, sc.bits)
	for _, g := range sc.v.segments {
		n += g.rangeSize(i, sc.bits)
	}
	for i := range sc.v.tables {
		t := &sc.v.tables[i]
		for p := segment.Range(lo, t.t.bits); p <= segment.Range(hi, t.t.bits); p++ {
			n += int64(t.parts[p-t.base].size) >> (max(sc.bits, t.t.bits) - t.t.bits)
		}
	}
	return n
}
