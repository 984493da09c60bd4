package objstore

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/engine/segment"
)

// interval is a range of key hashes, including both ends.
type interval struct{ lo, hi uint64 }

func (iv interval) contains(hash uint64) bool { return iv.lo <= hash && hash <= iv.hi }

// rangesOf returns the hash ranges [first, end) of a segment that overlap an interval.
func (g *committedSegment) rangesOf(iv interval) (first, end int) {
	return g.RangeIndex(iv.lo), g.RangeIndex(iv.hi) + 1
}

// weight returns the stored bytes of an interval, and the memory that loading and grouping it can need.
func (v view) weight(iv interval) (bytes, weight int64) {
	for _, g := range v.segments {
		n, w := g.weight(iv)
		bytes, weight = bytes+n, weight+w
	}
	return bytes, weight
}

func (g *committedSegment) weight(iv interval) (bytes, weight int64) {
	first, end := g.rangesOf(iv)
	bytes = int64(g.Offsets[end] - g.Offsets[first])
	return bytes, bytes + int64(float64(bytes)*g.entriesPerByte())*entryOverhead + bytes/8
}

// finestBits returns the binary logarithm of the number of hash ranges in the segment with the most
// ranges.
func (v view) finestBits() (bits uint8) {
	for _, g := range v.segments {
		bits = max(bits, g.Bits)
	}
	return bits
}

// nextInterval returns the longest interval that starts at lo, ends at hi or before, and fits in
// budget bytes of memory. If none fits, it returns the shortest one, and tooLarge is true.
func (v view) nextInterval(lo, hi uint64, budget int64) (iv interval, bytes int64, tooLarge bool) {
	bits := v.finestBits()
	for r := segment.RangeIndex(lo, bits); ; r++ {
		_, rangeEnd := segment.HashBounds(r, r+1, bits)
		wider := interval{lo, min(rangeEnd, hi)}
		n, weight := v.weight(wider)
		if weight > budget {
			if iv == (interval{}) {
				return wider, n, true
			}
			return iv, bytes, false
		}
		iv, bytes = wider, n
		if iv.hi == hi {
			return iv, bytes, false
		}
	}
}

// scanMemory divides the memory for reading among concurrent readers.
type scanMemory struct {
	limit int64
	used  atomic.Int64
}

// minScanMemory is the minimum memory for a reader, even if other readers use all memory.
const minScanMemory = 1 << 20

func scanBudget(free int64) int64 { return max(free/4*3, minScanMemory) }

func (m *scanMemory) reserveBudget() (budget int64, release func()) {
	for {
		used := m.used.Load()
		budget = scanBudget(m.limit - used)
		if m.used.CompareAndSwap(used, used+budget) {
			return budget, func() { m.used.Add(-budget) }
		}
	}
}

// passBudget returns the memory for one pass, about half of a reader's memory, because the next pass
// is loaded while the previous one is processed.
func passBudget(memory int64) int64 { return min(memory/2, maxArena) }

// loadedInterval contains the entries of an interval in memory.
type loadedInterval struct {
	interval
	arena    []byte
	sections []section // in the order of the log
	err      error
}

// section contains consecutive entries of one segment.
type section struct {
	segment int32 // index in the view
	offset  uint32
	entries []byte // part of the arena, at offset
}

func (l *loadedInterval) release() {
	offheap.Release(l.arena)
	l.arena = nil
}

// A reader makes one concurrent request for each budgetPerRequest bytes of memory, within the limits
// minRequests and maxRequests.
const (
	minRequests      = 8
	maxRequests      = 32
	budgetPerRequest = 8 << 20
)

func requestLimit(budget int64) int {
	return int(max(min(budget/budgetPerRequest, maxRequests), minRequests))
}

// loadAll reads an interval of the segments [first, end), with one request for each segment. bytes
// is the total size of the hash ranges that overlap the interval.
func (sc *scanner) loadAll(ctx context.Context, first, end int, iv interval, bytes int64) *loadedInterval {
	s, v := sc.store, sc.view
	l := &loadedInterval{interval: iv, sections: make([]section, 0, end-first)}
	if bytes == 0 {
		return l
	}
	if l.arena, l.err = offheap.Allocate(int(bytes)); l.err != nil {
		return l
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	slots := make(chan struct{}, requestLimit(sc.budget))
	off := int64(0)
	for i := first; i < end; i++ {
		g := v.segments[i]
		firstRange, endRange := g.rangesOf(iv)
		n := int64(g.Offsets[endRange] - g.Offsets[firstRange])
		if n == 0 {
			continue
		}
		l.sections = append(l.sections, section{int32(i), uint32(off), nil})
		sec := &l.sections[len(l.sections)-1]
		buf := l.arena[off : off : off+n] // large enough, because the n stored bytes include block headers
		off += n
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			b, err := s.load(ctx, v, g, firstRange, endRange, buf)
			if err != nil {
				cancel(canceled.Failure(err))
			}
			sec.entries = b
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		l.err = cmp.Or(l.err, canceled.Err(ctx))
	}
	return l
}
