package logstore

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/engine/segment"
)

// A scan divides the hashes into partitions that are small enough for grouping in the
// processor's cache. Several workers process partitions, but the consumer receives the results
// in the order of the partitions.

type scanRequest struct {
	hashes   hashRange
	parts    int  // number of parts into which the caller divides the store; their scans may run concurrently
	keysOnly bool // yield keys with sizes instead of chunks
}

type scanner struct {
	scanRequest
	ctx    context.Context
	cancel context.CancelFunc
	s      *Store
	v      *view
	bits   uint8 // number of leading hash bits that select a range; partitions consist of adjacent ranges

	memory     int64 // bytes reserved by takeScanMemory
	lent       int64 // bytes of a table, in addition to memory
	loadBytes  int64 // maximum bytes that a worker loads at a time
	maxRefs    int   // maximum entries that a worker groups at a time
	batchBytes int   // maximum size of batches, and target size of partitions

	partitions     chan *scanPartition // in the order of their hashes
	workers        []*scanWorker
	runningWorkers atomic.Int32
	wg             sync.WaitGroup

	mu        sync.Mutex // guards the fields below, and sending to partitions
	nextRange int        // first range of the next partition
	exhausted bool       // all partitions were sent

	// The ranges before prefetched were prefetched, the last time from prefetchAt on.
	prefetchAt, prefetched int
}

// scanPartition is an interval of hashes that one worker reads.
type scanPartition struct {
	hashes  hashRange
	batches chan *scanBatch
	err     error // set before batches is closed
}

const (
	maxBatchBytes      = 512 << 10
	maxTotalBatchBytes = 12 << 20 // maximum size of all batches of a scan together, in bytes
	minWorkerBytes     = 2 << 20  // minimum memory per worker
)

// scan passes the requested content of the store to use, batch by batch, until use returns false.
func (s *Store) scan(ctx context.Context, req scanRequest, use func(*scanBatch) bool) (err error) {
	if ctx.Err() != nil {
		return canceled.Err(ctx)
	}
	v, err := s.scanView(ctx)
	if err != nil {
		return err
	}
	sc := s.newScanner(ctx, v, req)
	stopped := false
	defer func() {
		if e := sc.close(); !stopped {
			err = errors.Join(err, e)
		}
	}()
	for p := range sc.partitions {
		for b := range p.batches {
			if ctx.Err() != nil {
				return canceled.Err(ctx)
			}
			if !use(b) {
				stopped = true
				return nil
			}
			b.reset()
			b.worker.free <- b
		}
		if p.err != nil {
			return p.err
		}
	}
	return sc.verify()
}

func (s *Store) newScanner(ctx context.Context, v *view, req scanRequest) *scanner {
	sc := &scanner{scanRequest: req, s: s, v: v}
	sc.ctx, sc.cancel = context.WithCancel(ctx)
	sc.memory = s.takeScanMemory(req.parts)
	memory := cmp.Or(sc.memory, min(2*s.readBytes, minWorkerBytes))
	sc.bits = v.scanBits(memory / 16)
	sc.nextRange = segment.RangeIndex(req.hashes.lo, sc.bits)
	maxWorkers, workerBytes := sc.workerNeeds()
	if memory < int64(maxWorkers)*workerBytes && sc.memory > 0 {
		s.mu.Lock()
		sc.lent = s.tables.lend(s.maxBatch)
		s.mu.Unlock()
		memory += sc.lent
	}
	workers := cmp.Or(s.hooks.scanWorkers, int(max(min(int64(maxWorkers), memory/workerBytes), 1)))
	memory /= int64(workers)
	// A worker uses three quarters of its memory for loaded data, and one quarter for two
	// references to each entry: in refs and in spare.
	sc.loadBytes = min(memory/4*3, maxEntryOffset)
	sc.maxRefs = max(int(memory/4/(2*entryRefLen)), 8)
	sc.batchBytes = max(min(maxBatchBytes, int(sc.loadBytes/8), maxTotalBatchBytes/(2*workers)), 64<<10)
	if s.hooks.batchBytes > 0 {
		sc.batchBytes = s.hooks.batchBytes
	}
	sc.partitions = make(chan *scanPartition, workers)
	sc.runningWorkers.Store(int32(workers))
	for range workers {
		w := &scanWorker{sc: sc, free: make(chan *scanBatch, batchesPerWorker)}
		for range batchesPerWorker {
			w.free <- &scanBatch{worker: w}
		}
		sc.workers = append(sc.workers, w)
		sc.wg.Go(w.run)
	}
	return sc
}

// takeScanMemory reserves memory for a scan: the whole memory for scans or, if the scan reads one
// of several parts, a fraction of it. It returns 0 if other scans have left too little.
func (s *Store) takeScanMemory(parts int) int64 {
	n := 2 * s.readBytes / int64(min(parts, 4))
	for {
		used := s.scanMemory.Load()
		if used+n > 2*s.readBytes {
			return 0
		}
		if s.scanMemory.CompareAndSwap(used, used+n) {
			return n
		}
	}
}

// workerNeeds returns the maximum number of workers, which is at most the number of ranges, and the memory of each in
// bytes. With less memory, a worker could not load a whole range, and would have to read it several times.
func (sc *scanner) workerNeeds() (workers int, bytes int64) {
	const samples = 64
	var largest int64
	for i := range samples {
		largest = max(largest, sc.rangeSize(i<<sc.bits/samples))
	}
	ranges := segment.RangeIndex(sc.hashes.hi, sc.bits) - segment.RangeIndex(sc.hashes.lo, sc.bits) + 1
	return min(runtime.GOMAXPROCS(0), ranges), max(minWorkerBytes, 2*largest)
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
	end := packRanges(sc.nextRange, lastRange+1, sc.rangeSize, int64(sc.batchBytes))
	p := &scanPartition{batches: make(chan *scanBatch, batchesPerWorker)}
	p.hashes.lo, p.hashes.hi = segment.HashBounds(sc.nextRange, end, sc.bits)
	p.hashes = hashRange{max(p.hashes.lo, sc.hashes.lo), min(p.hashes.hi, sc.hashes.hi)}
	select {
	case sc.partitions <- p:
	case <-sc.ctx.Done():
		return nil
	}
	sc.nextRange, sc.exhausted = end, end > lastRange
	return p
}

// verify compares the data read with the store's ledger. Call it after consuming all partitions.
func (sc *scanner) verify() error {
	sc.wg.Wait()
	if !sc.exhausted {
		return canceled.Err(sc.ctx)
	}
	if sc.keysOnly || sc.hashes != allHashes {
		return nil
	}
	if err := sc.v.ledger().Diff(sc.ledger()); err != nil {
		return sc.s.corruptError(err)
	}
	return nil
}

func (sc *scanner) ledger() (l Ledger) {
	for _, w := range sc.workers {
		l.Add(w.ledger)
	}
	return l
}

func (sc *scanner) close() error {
	sc.cancel()
	sc.wg.Wait()
	for _, w := range sc.workers {
		offheap.Release(w.arena)
	}
	sc.s.scanMemory.Add(-sc.memory)
	if sc.lent > 0 {
		sc.s.mu.Lock()
		sc.s.tables.takeBack()
		sc.s.mu.Unlock()
	}
	return sc.v.close()
}
