package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
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

// TestLargeValuesAreSpread checks that a scan divides a store into partitions by the size of its values, even if most
// of them are in blob files, and that a scan of keys does not.
func TestLargeValuesAreSpread(t *testing.T) {
	s := openWith(t, "/s", nil, hooks{fs: vfstest.NewMem(), tableBytes: 256 << 10})
	want := map[string][]byte{}
	for i := range 100 {
		key := fmt.Sprint("key", i)
		want[key] = bytes.Repeat([]byte(key), 40_000)
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: key, Value: want[key]}, partd.Entry{Key: key, Value: []byte("end")}))
		want[key] = append(want[key], "end"...)
	}
	for _, keysOnly := range []bool{false, true} {
		v := must.Get(s.scanView(t.Context()))(t)
		sc := s.scans.run(t.Context(), v, scanRequest{hashes: allHashes, parts: 1, keysOnly: keysOnly})
		partitions, keys := 0, 0
		for p := range sc.partitions {
			partitions++
			for b := range p.batches {
				keys += len(b.items)
				b.reset()
				b.free <- b
			}
			if p.err != nil {
				t.Fatal(p.err)
			}
		}
		must.Do(t, errors.Join(sc.verify(), sc.close()))
		if keysOnly && (partitions != 1 || keys != len(want)) || !keysOnly && (partitions < 8 || partitions > 64) {
			t.Errorf("with keysOnly=%t, a scan of 20 MB had %d partitions and %d items", keysOnly, partitions, keys)
		}
	}
	got := must.Get(collectParts(s.Scan(t.Context())))(t)
	for key, value := range want {
		if !bytes.Equal(got.values[key], value) {
			t.Errorf("Scan() yielded %d bytes for %s, want %d equal bytes", len(got.values[key]), key, len(value))
		}
	}
}

// TestPartHashes checks that the hash intervals of parts are adjacent and of similar size.
func TestPartHashes(t *testing.T) {
	for _, parts := range []int{1, 2, 3, 7, 1000, 1024, 65_535, partd.MaxParts} {
		next := uint64(0)
		for p := range parts {
			r := partHashes(p, parts)
			if r.lo != next || r.hi < r.lo || parts > 1 && (r.hi-r.lo)/2 > 1<<63/uint64(parts) {
				t.Fatalf("part %d of %d has the hashes %x to %x, want a similar share that starts at %x", p, parts, r.lo, r.hi, next)
			}
			next = r.hi + 1
		}
		if next != 0 {
			t.Fatalf("the last of %d parts does not end at the highest hash: the next would start at %x", parts, next)
		}
	}
}
