package objstore

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/canceled"
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
		n, w := g.weight(iv)
		bytes, weight = bytes+n, weight+w
	}
	return bytes, weight
}

func (g *stored) weight(iv interval) (bytes, weight int64) {
	first, end := g.rangesOf(iv)
	bytes = int64(g.Off[end] - g.Off[first])
	return bytes, bytes + int64(float64(bytes)*g.perByte())*perEntry + bytes/8
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

func scanBudget(left int64) int64 { return max(left/4*3, minScan) }

func (m *scanMemory) take() (budget int64, giveBack func()) {
	for {
		used := m.used.Load()
		budget = scanBudget(m.limit - used)
		if m.used.CompareAndSwap(used, used+budget) {
			return budget, func() { m.used.Add(-budget) }
		}
	}
}

// budgetOf is what one of two passes may take of the memory of a reader.
func budgetOf(memory int64) int64 { return min(memory/2, maxArena) }

// loaded is what was read of an interval: the entries of each segment, in order.
type loaded struct {
	interval
	arena    []byte
	sections []section // in the order of the log
	err      error
}

// section is neighbouring entries of one segment, in the order of the log.
type section struct {
	segment int32 // in the view
	at      uint32
	entries []byte // of the arena, from at on
}

func (l *loaded) release() {
	offheap.Release(l.arena)
	l.arena = nil
}

// The requests of a reader that are under way at the same time: more where there is
// memory for what they read ahead, since short ones mostly wait for their first byte.
const (
	minAtOnce = 8
	maxAtOnce = 32
	perAtOnce = 8 << 20 // of the budget
)

func atOnce(budget int64) int { return int(max(min(budget/perAtOnce, maxAtOnce), minAtOnce)) }

// loadAll reads an interval of some segments, from first to the one before end, with
// one request for each. The entries of other hashes, which share a range, are read along.
func (sc *scanner) loadAll(ctx context.Context, first, end int, iv interval, bytes int64) *loaded {
	s, v := sc.store, sc.view
	l := &loaded{interval: iv, sections: make([]section, 0, end-first)}
	if bytes == 0 {
		return l
	}
	if l.arena, l.err = offheap.Allocate(int(bytes)); l.err != nil {
		return l
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce(sc.budget))
	at := int64(0)
	for i := first; i < end; i++ {
		g := v.segments[i]
		from, to := g.rangesOf(iv)
		n := int64(g.Off[to] - g.Off[from])
		if n == 0 {
			continue
		}
		l.sections = append(l.sections, section{int32(i), uint32(at), nil})
		part := &l.sections[len(l.sections)-1]
		room := l.arena[at : at : at+n] // what is stored has its blocks' heads, too
		at += n
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			b, err := s.load(ctx, v, g, from, to, room)
			if err != nil {
				cancel(canceled.Because(err))
			}
			part.entries = b
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		l.err = cmp.Or(l.err, canceled.Err(ctx))
	}
	return l
}
