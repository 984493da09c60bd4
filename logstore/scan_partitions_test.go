package logstore

import (
	"testing"

	"github.com/go-partd/partd/internal/engine/segment"
)

// TestScanBits checks that scanBits chooses ranges just wide enough that few bytes are read more than once.
func TestScanBits(t *testing.T) {
	type source struct {
		bits uint8
		size int64
	}
	repeat := func(n int, s source) (list []source) {
		for range n {
			list = append(list, s)
		}
		return list
	}
	const limit = 3 << 20
	for _, c := range []struct {
		name    string
		sources []source
		limit   int64
		want    uint8
	}{
		{"no sources", nil, limit, 0},
		{"ranges of one width", repeat(20, source{10, 90 << 20}), limit, 10},
		{"one small segment", append(repeat(20, source{10, 90 << 20}), source{0, 4 << 10}), limit, 10},
		{"small ranges of one width", repeat(8, source{16, 1 << 20}), limit, 16},
		{"narrow and wide ranges", append(repeat(8, source{15, 136 << 20}), repeat(15, source{10, 88 << 20})...), limit, 10},
		{"narrow and wide ranges, little memory", append(repeat(8, source{15, 136 << 20}), repeat(15, source{10, 88 << 20})...), 300 << 10, 14},
	} {
		v := &view{}
		for i, s := range c.sources {
			off := make([]uint32, 1<<s.bits+1)
			raw := make([]uint32, 1<<s.bits)
			for r := range raw {
				raw[r] = uint32(s.size >> s.bits)
				off[r+1] = off[r] + raw[r]
			}
			seg := &storedSegment{Layout: segment.Layout{Bits: s.bits, Offsets: off}}
			if i%2 == 1 { // as in a compressed segment
				clear(off)
				seg.RawLens = raw
			}
			v.segments = append(v.segments, seg)
		}
		got := v.scanBits(c.limit)
		if got != c.want {
			t.Errorf("%s: scanBits() = %d, want %d", c.name, got, c.want)
		}
		var total, want int64
		sc := &scanner{v: v, bits: got}
		for i := range 1 << got {
			total += sc.rangeSize(i)
		}
		for _, s := range c.sources {
			want += s.size >> s.bits << s.bits
		}
		if total > want || total < want-int64(len(c.sources))<<got {
			t.Errorf("%s: the ranges have %d bytes, want %d", c.name, total, want)
		}
	}
}
