package objstore

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/offheap"
	"github.com/go-partd/partd/internal/segment"
)

// interval is a range of hashes, both ends included.
type interval struct{ lo, hi uint64 }

func (iv interval) has(hash uint64) bool { return iv.lo <= hash && hash <= iv.hi }

// rangesOf returns the ranges of a segment that hold an interval, from the first to
// the one before end.
func (g *stored) rangesOf(iv interval) (first, end int) {
	return g.RangeOf(iv.lo), g.RangeOf(iv.hi) + 1
}

// weight is what an interval takes in memory at the most, when it is read.
func (v view) weight(iv interval) (bytes, weight int64) {
	for _, g := range v.segments {
		first, end := g.rangesOf(iv)
		n := int64(g.Off[end] - g.Off[first])
		entries := g.ledger.Pieces + g.ledger.Marks
		bytes += n
		weight += n + int64(float64(n)*float64(entries)/float64(max(g.Length(), 1)))*perEntry + n/8
	}
	return bytes, weight
}

// finest is the number of bits by which some segment is divided.
func (v view) finest() (bits uint8) {
	for _, g := range v.segments {
		bits = max(bits, g.Bits)
	}
	return bits
}

// next returns the longest interval from lo on, not beyond hi, that fits in so much
// memory, and whether even the shortest does not.
func (v view) next(lo, hi uint64, budget int64) (iv interval, bytes int64, tooLarge bool) {
	bits := v.finest()
	for r := segment.Range(lo, bits); ; r++ {
		_, top := segment.Bounds(r, r+1, bits)
		longer := interval{lo, min(top, hi)}
		n, weight := v.weight(longer)
		if weight > budget {
			if iv == (interval{}) {
				return longer, n, true
			}
			return iv, bytes, false
		}
		iv, bytes = longer, n
		if iv.hi == hi {
			return iv, bytes, false
		}
	}
}

// scanMemory divides the memory for reading among those who read at the same time:
// each gets three quarters of what is left.
type scanMemory struct {
	limit int64
	used  atomic.Int64
}

// minScan is what a reader gets even if others have taken all.
const minScan = 1 << 20

func (m *scanMemory) take() (budget int64, giveBack func()) {
	for {
		used := m.used.Load()
		budget = max((m.limit-used)/4*3, minScan)
		if m.used.CompareAndSwap(used, used+budget) {
			return budget, func() { m.used.Add(-budget) }
		}
	}
}

// loaded is what was read of an interval: the entries of each segment, in order.
type loaded struct {
	interval
	arena  []byte
	parts  [][]byte // by segment, of the arena
	starts []uint32 // where in the arena they begin
	err    error
}

func (l *loaded) release() {
	offheap.Release(l.arena)
	l.arena = nil
}

// readers is how many requests of a reader are under way at the same time.
const readers = 8

// loadAll reads an interval of all segments, with one request for each. The entries of
// other hashes, which share a range, are read along.
func (s *Store) loadAll(ctx context.Context, v view, iv interval, bytes int64) *loaded {
	l := &loaded{interval: iv, parts: make([][]byte, len(v.segments)), starts: make([]uint32, len(v.segments))}
	if bytes == 0 {
		return l
	}
	if l.arena, l.err = offheap.Allocate(int(bytes)); l.err != nil {
		return l
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	slots := make(chan struct{}, readers)
	at := int64(0)
	for i, g := range v.segments {
		first, end := g.rangesOf(iv)
		n := int64(g.Off[end] - g.Off[first])
		if n == 0 {
			continue
		}
		l.starts[i] = uint32(at)
		to := l.arena[at : at : at+n] // what is stored has its blocks' heads, too
		at += n
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			b, err := s.load(ctx, v, g, first, end, to)
			if err != nil {
				cancel(err)
			}
			l.parts[i] = b
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		l.err = cmp.Or(l.err, context.Cause(ctx))
	}
	return l
}
