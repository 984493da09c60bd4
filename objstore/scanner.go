package objstore

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/engine/segment"
)

// scanner is a running Scan, ScanPart, Get or Open.
type scanner struct {
	view           view
	disk           *scanDisk
	closed         *atomic.Bool // set when the store is closed
	budget         int64        // memory for a pass's loaded data and its groups, in bytes
	yield          func(partd.Chunk, error) bool
	groups         groups
	streamedLedger segment.Ledger // checksums of the entries that were processed without loading them into groups
	buf            []byte
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

// batchBytes returns the number of bytes to load from the bucket while the previous batch is
// written to disk.
func (sc *scanner) batchBytes() int64 { return sc.budget * 2 / 5 }

// loadAll reads an interval of the segments [first, end), with one request for each segment. bytes
// is the total size of the hash ranges that overlap the interval.
func (sc *scanner) loadAll(ctx context.Context, first, end int, iv interval, bytes int64) *loadedInterval {
	l := &loadedInterval{interval: iv, sections: make([]section, 0, end-first)}
	if bytes == 0 {
		return l
	}
	l.arena, l.err = offheap.Allocate(int(bytes))
	if l.err != nil {
		return l
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	slots := make(chan struct{}, requestLimit(sc.budget))
	off := int64(0)
	for i := first; i < end; i++ {
		g := sc.view.segments[i]
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
			b, err := sc.view.load(ctx, g, firstRange, endRange, buf)
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

// emit groups loaded entries by key, and yields each key's value.
func (sc *scanner) emit(ctx context.Context, l *loadedInterval) error {
	gs := &sc.groups
	if err := gs.load(sc.view, l); err != nil {
		return err
	}
	for i := range gs.keys {
		k := &gs.keys[i]
		if !k.exists {
			continue
		}
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		if sc.closed.Load() {
			return partd.ErrClosed
		}
		c := chunker{key: string(gs.entry(k.entryOffset).Key), buf: sc.buf[:0], yield: sc.yield}
		ok := gs.eachPiece(k, c.add) && c.emit(true)
		sc.buf = c.buf
		if !ok {
			return errStop
		}
	}
	return nil
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
