package logstore

import (
	"cmp"
	"context"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/segment"
)

// A scan divides the hashes into partitions that are so small that their entries can be
// grouped in the processor's cache. Several workers process partitions, but the consumer receives the results
// in partition order.

// scanRun is a scan with its workers.
type scanRun struct {
	scanner
	workers []*scanWorker
}

// run starts a scan of v with several workers. The caller must close the result.
func (ss *scans) run(ctx context.Context, v *view, req scanRequest) *scanRun {
	sc := &scanRun{scanner: scanner{scanRequest: req, scans: ss, v: v}}
	sc.ctx, sc.cancel = context.WithCancel(ctx)
	sc.memory = ss.take(req.parts)
	usable := cmp.Or(sc.memory, min(2*ss.readBytes, minWorkerBytes))
	sc.bits, sc.packBytes = v.scanBits(usable/16), maxBatchBytes
	if !req.keysOnly {
		sc.spreadBlobs()
	}
	sc.nextRange = segment.RangeIndex(req.hashes.lo, sc.bits)
	maxWorkers, workerBytes := sc.workerNeeds()
	if usable < int64(maxWorkers)*workerBytes && sc.memory > 0 {
		ss.mu.Lock()
		sc.lent = ss.tables.lend(ss.maxBatch)
		ss.mu.Unlock()
		usable += sc.lent
	}
	workers := cmp.Or(ss.hooks.scanWorkers, int(max(min(int64(maxWorkers), usable/workerBytes), 1)))
	memoryPerWorker := usable / int64(workers)
	// A worker uses three quarters of its memory for loaded data, and one quarter for two
	// references to each entry: in refs and in spare.
	sc.loadBytes = min(memoryPerWorker/4*3, maxEntryOffset)
	sc.maxRefs = max(int(memoryPerWorker/4/(2*entryRefLen)), 8)
	sc.batchBytes = max(min(maxBatchBytes, int(sc.loadBytes/8), maxTotalBatchBytes/(2*workers)), 64<<10)
	if ss.hooks.batchBytes > 0 {
		sc.batchBytes = ss.hooks.batchBytes
	}
	sc.packBytes = min(sc.packBytes, int64(sc.batchBytes))
	sc.partitions = make(chan *scanPartition, workers)
	sc.runningWorkers.Store(int32(workers))
	for range workers {
		w := &scanWorker{sc: &sc.scanner, free: make(chan *scanBatch, batchesPerWorker)}
		for range batchesPerWorker {
			w.free <- &scanBatch{free: w.free}
		}
		sc.workers = append(sc.workers, w)
		sc.wg.Go(w.run)
	}
	return sc
}

// verify checks the data that the workers read against the store's ledger. Call it after consuming
// all partitions.
func (sc *scanRun) verify() error {
	sc.wg.Wait()
	if !sc.exhausted {
		return canceled.Err(sc.ctx)
	}
	if sc.keysOnly || sc.hashes != allHashes {
		return nil
	}
	if err := sc.v.ledger().Diff(sc.ledger()); err != nil {
		return sc.scans.corruptError(err)
	}
	return nil
}

func (sc *scanRun) ledger() (l segment.Ledger) {
	for _, w := range sc.workers {
		l.Add(w.ledger)
	}
	return l
}

func (sc *scanRun) close() error {
	sc.cancel()
	sc.wg.Wait()
	for _, w := range sc.workers {
		offheap.Release(w.arena)
	}
	sc.scans.memory.Add(-sc.memory)
	if sc.lent > 0 {
		sc.scans.mu.Lock()
		sc.scans.tables.takeBack()
		sc.scans.mu.Unlock()
	}
	return sc.v.close()
}

func (w *scanWorker) run() {
	defer func() {
		if w.sc.runningWorkers.Add(-1) == 0 {
			close(w.sc.partitions)
		}
	}()
	for {
		p := w.sc.nextPartition()
		if p == nil {
			return
		}
		w.out = p.batches
		p.err = w.emitPartition(p)
		if p.err == nil {
			p.err = w.send()
		}
		close(p.batches)
		if p.err != nil {
			return
		}
	}
}

// scans limits the memory of all scans together. mu must be held to call lend or takeBack of tables.
type scans struct {
	*directory
	mu        *sync.Mutex // Store.mu
	format    *segment.Format
	tables    *memtables
	readBytes int64 // maximum bytes that a scan loads at a time
	maxBatch  int   // maximum size of an operation's batch
	hooks     *hooks

	memory atomic.Int64 // bytes reserved by take
}

type scanner struct {
	scanRequest
	ctx    context.Context
	cancel context.CancelFunc
	scans  *scans
	v      *view
	bits   uint8 // number of leading hash bits that select a range; partitions consist of adjacent ranges

	memory     int64 // bytes reserved by scans.take
	lent       int64 // bytes lent by tables.lend, in addition to memory
	loadBytes  int64 // maximum bytes that a worker loads at a time
	maxRefs    int   // maximum entries that a worker groups at a time
	batchBytes int   // maximum size of batches
	packBytes  int64 // target size of partitions, not counting large values

	partitions     chan *scanPartition // in order of their hashes
	runningWorkers atomic.Int32
	wg             sync.WaitGroup

	mu        sync.Mutex // guards the fields below, and sending to partitions
	nextRange int        // first range of the next partition
	exhausted bool       // all partitions were sent

	// The last prefetch covered the ranges [prefetchStart, prefetchEnd).
	prefetchStart, prefetchEnd int
}

// nextPartition returns the next partition, or nil at the end or if the scan is canceled.
func (sc *scanner) nextPartition() *scanPartition {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.exhausted || sc.ctx.Err() != nil {
		return nil
	}
	lastRange := segment.RangeIndex(sc.hashes.hi, sc.bits)
	sc.prefetch(lastRange)
	end := packRanges(sc.nextRange, lastRange+1, sc.rangeSize, sc.packBytes)
	p := &scanPartition{batches: make(chan *scanBatch, batchesPerWorker)}
	p.hashes.lo, p.hashes.hi = segment.HashBounds(sc.nextRange, end, sc.bits)
	p.hashes = hashRange{max(p.hashes.lo, sc.hashes.lo), min(p.hashes.hi, sc.hashes.hi)}
	if canceled.Send(sc.ctx, sc.partitions, p) != nil {
		return nil
	}
	sc.nextRange, sc.exhausted = end, end > lastRange
	return p
}

// take reserves memory for a scan and returns the number of bytes. A scan of the whole store gets all
// memory for scans; a scan of one part gets a fraction. take returns 0 if too little is left.
func (ss *scans) take(parts int) int64 {
	n := 2 * ss.readBytes / int64(min(parts, 4))
	for {
		used := ss.memory.Load()
		if used+n > 2*ss.readBytes {
			return 0
		}
		if ss.memory.CompareAndSwap(used, used+n) {
			return n
		}
	}
}

// workerNeeds returns the maximum number of workers, which is at most the number of ranges, and the memory of each in
// bytes. With less memory, a worker could not load a whole range and would have to read it several times.
func (sc *scanner) workerNeeds() (workers int, bytes int64) {
	const samples = 64
	var largest int64
	for i := range samples {
		largest = max(largest, sc.rangeSize(i<<sc.bits/samples))
	}
	ranges := segment.RangeIndex(sc.hashes.hi, sc.bits) - segment.RangeIndex(sc.hashes.lo, sc.bits) + 1
	return min(runtime.GOMAXPROCS(0), ranges), max(minWorkerBytes, 2*largest)
}

// spreadBlobs makes partitions smaller if most data is in blob files, so that workers can read large values at the same
// time. Then a partition is a part of a source's range, and the scan reads that range once for each of its partitions.
// spreadBlobs limits these reads to an eighth of the data.
func (sc *scanner) spreadBlobs() {
	data, stored := sc.v.ledger().Bytes, int64(0)
	for i := range 1 << sc.bits {
		stored += sc.rangeSize(i)
	}
	if data/2 <= stored {
		return
	}
	target := max(batchesPerWorker*maxBatchBytes, 8*(stored>>sc.bits+readCost*int64(sc.v.sourceCount())))
	if count := data / target; count > 1<<sc.bits {
		sc.bits = uint8(min(bits.Len64(uint64(count)), maxBits))
	}
	sc.packBytes = int64(float64(target) / float64(data) * float64(stored))
}

// maxPrefetch is the maximum number of bytes that a scan prefetches at a time.
const maxPrefetch = 8 << 20

// prefetch starts to read the ranges that the next partitions need, so that the disk gets many
// reads at once, each of several adjacent ranges. When workers reach ranges that were prefetched,
// it prefetches those after them. sc.mu must be held.
func (sc *scanner) prefetch(lastRange int) {
	if sc.nextRange < sc.prefetchStart || sc.prefetchEnd > lastRange {
		return
	}
	sc.prefetchStart = max(sc.prefetchEnd, sc.nextRange)
	sc.prefetchEnd = packRanges(sc.prefetchStart, lastRange+1, sc.rangeSize, min(max(sc.memory, minWorkerBytes), maxPrefetch))
	lo, hi := segment.HashBounds(sc.prefetchStart, sc.prefetchEnd, sc.bits)
	for _, seg := range sc.v.segments {
		off := seg.Offsets[seg.RangeIndex(lo)]
		if c, ok := seg.file.f.(vfs.Cacher); ok {
			c.Prefetch(seg.Start+int64(off), seg.rangesLen(lo, hi))
		}
	}
}

// rangeSize returns the approximate size of range i of the scan, not counting hot keys.
func (sc *scanner) rangeSize(i int) int64 {
	var n int64
	lo, hi := segment.HashBounds(i, i+1, sc.bits)
	for _, seg := range sc.v.segments {
		n += seg.rangeSize(i, sc.bits)
	}
	for i := range sc.v.tables {
		t := &sc.v.tables[i]
		for p := segment.RangeIndex(lo, t.table.bits); p <= segment.RangeIndex(hi, t.table.bits); p++ {
			n += int64(t.parts[p-t.base].size) >> (max(sc.bits, t.table.bits) - t.table.bits)
		}
	}
	return n
}
