package objstore

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
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

// emit groups loaded entries by key and yields each key's value.
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

// scanDisk holds the temporary files of all readers.
type scanDisk struct {
	opts *Options
	temp *tempdir.Set // nil if Options.Disk is 0
	used atomic.Int64 // bytes that readers have reserved for files in temp
}

// reserve reserves n more bytes of the disk limit and adds them to *reserved, the number of bytes
// that the reader already has.
func (d *scanDisk) reserve(n int64, reserved *int64) error {
	if used := d.used.Add(n); used > d.opts.Disk {
		d.used.Add(-n)
		return diskLimitError(*reserved+n, d.opts.Disk, used-n-*reserved)
	}
	*reserved += n
	return nil
}

func diskLimitError(need, limit, used int64) error {
	return fmt.Errorf("reading in one pass needs about %s of disk, but the disk option allows %s, "+
		"and other readers use %s of it: increase the disk option, divide the store among more readers, "+
		"or set disk=0 to read in many passes", mib(need), mib(limit), mib(used))
}

func (d *scanDisk) checkFree(need int64) error {
	disk, ok := d.opts.hooks.fs.(vfs.SpaceReporter)
	if !ok {
		return nil
	}
	free, err := disk.Free(d.opts.DiskDir)
	if err == nil && free < need {
		return fmt.Errorf("reading in one pass needs about %s of disk in %s, but only %s are free: "+
			"set the disk-dir option to another directory, divide the store among more readers, "+
			"or set disk=0 to read in many passes: %w", mib(need), d.opts.DiskDir, mib(free), syscall.ENOSPC)
	}
	return d.fileError(err)
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }

// fileError wraps an error from the temporary file and adds advice for the user.
func (d *scanDisk) fileError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("regrouping in a temporary file in %s (set the disk-dir option to another directory, "+
		"or disk=0 to read in many passes without a file): %w", d.opts.DiskDir, err)
}
