package logstore

import (
	"cmp"
	"context"
	"errors"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/offheap"
	"github.com/go-partd/partd/internal/segment"
)

// A scan divides the hashes into partitions that are grouped well in the
// processor's cache. Workers take them in order, read and group them; the consumer
// takes their results in the same order. So what a scan yields does not depend on
// how many workers there are.

// hashRange is the hashes from lo to hi, both included.
type hashRange struct{ lo, hi uint64 }

var allHashes = hashRange{0, math.MaxUint64}

func (r hashRange) contains(hash uint64) bool { return r.lo <= hash && hash <= r.hi }

// scanRequest says what to read.
type scanRequest struct {
	hashes   hashRange
	parts    int  // how many such scans may run side by side
	keysOnly bool // keys with sizes instead of chunks
}

type scanner struct {
	scanRequest
	ctx    context.Context
	cancel context.CancelFunc
	s      *Store
	v      *view
	bits   uint8 // of the ranges that partitions consist of

	memory     int64 // taken from Store.scanMemory
	loadBytes  int64 // what a worker may load at once
	maxRefs    int   // entries that a worker may note at once
	batchBytes int   // bytes that are handed over, and mostly grouped, at once

	partitions chan *scanPartition // in order
	workers    []*scanWorker
	running    atomic.Int32
	wg         sync.WaitGroup

	mu   sync.Mutex // guards next, and sending to partitions
	next int        // the range at which the next partition begins
	all  bool       // every partition was taken
}

// scanPartition is hashes that are read by one worker.
type scanPartition struct {
	hashes  hashRange
	size    int64 // about how many bytes there are
	batches chan *scanBatch
	err     error // why it ended too early; set before batches is closed
}

const (
	maxBatchBytes  = 512 << 10
	maxBatches     = 12 << 20 // bytes of all batches of a scan
	minWorkerBytes = 2 << 20  // memory that a worker should have
)

// scan hands the content of the store to use, batch by batch, until that returns
// false.
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
	// use is the caller's code, which may panic.
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

// newScanner starts the workers.
func (s *Store) newScanner(ctx context.Context, v *view, req scanRequest) *scanner {
	sc := &scanner{scanRequest: req, s: s, v: v}
	sc.ctx, sc.cancel = context.WithCancel(ctx)
	sc.memory = s.takeScanMemory(req.parts)
	memory := cmp.Or(sc.memory, min(2*s.readBytes, minWorkerBytes))
	sc.bits = v.scanBits(memory / 16)
	sc.next = segment.Range(req.hashes.lo, sc.bits)
	workers := sc.workerCount(memory)
	memory /= int64(workers)
	// What is loaded is outside of the heap; of an entry, two references are noted.
	sc.loadBytes = min(memory/4*3, maxEntryAt)
	sc.maxRefs = max(int(memory/4/(2*entryRefLen)), 8)
	sc.batchBytes = max(min(maxBatchBytes, int(sc.loadBytes/8), maxBatches/(2*workers)), 64<<10)
	if s.hooks.batchBytes > 0 {
		sc.batchBytes = s.hooks.batchBytes
	}
	sc.partitions = make(chan *scanPartition, workers)
	sc.running.Store(int32(workers))
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

// takeScanMemory takes memory set aside for scans: all of it for a scan alone, less
// for one of several parts, and none if there is not so much left.
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

// workerCount returns how many workers share some memory: no more than there are
// ranges, and not so many that one could not load a usual range, which it then would
// have to read several times.
func (sc *scanner) workerCount(memory int64) int {
	if n := sc.s.hooks.scanWorkers; n > 0 {
		return n
	}
	const samples = 64
	var largest int64
	for i := range samples {
		largest = max(largest, sc.rangeSize(i<<sc.bits/samples))
	}
	ranges := segment.Range(sc.hashes.hi, sc.bits) - segment.Range(sc.hashes.lo, sc.bits) + 1
	most := min(runtime.GOMAXPROCS(0), ranges)
	return int(max(min(int64(most), memory/max(minWorkerBytes, 2*largest)), 1))
}

// take returns the partition after those taken before, or nil if there is none or
// the scan ends.
func (sc *scanner) take() *scanPartition {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.all || sc.ctx.Err() != nil {
		return nil
	}
	last := segment.Range(sc.hashes.hi, sc.bits)
	end, size := together(sc.next, last+1, sc.rangeSize, int64(sc.batchBytes))
	p := &scanPartition{size: size, batches: make(chan *scanBatch, batchesPerWorker)}
	p.hashes.lo, p.hashes.hi = segment.Bounds(sc.next, end, sc.bits)
	p.hashes = hashRange{max(p.hashes.lo, sc.hashes.lo), min(p.hashes.hi, sc.hashes.hi)}
	select {
	case sc.partitions <- p:
	case <-sc.ctx.Done():
		return nil
	}
	sc.next, sc.all = end, end > last
	return p
}

// verify compares what was read with the ledger, once all is read.
func (sc *scanner) verify() error {
	sc.wg.Wait()
	if !sc.all {
		return canceled.Err(sc.ctx)
	}
	if sc.keysOnly || sc.hashes != allHashes {
		return nil
	}
	if err := sc.v.ledger().Diff(sc.ledger()); err != nil {
		return sc.s.corrupt(err)
	}
	return nil
}

// ledger is the account of what was read. The workers have ended.
func (sc *scanner) ledger() (l Ledger) {
	for _, w := range sc.workers {
		l.Add(w.ledger)
	}
	return l
}

// corrupt returns the error of what is wrong with the store at no place that is
// known.
func (s *Store) corrupt(err error) error {
	return &partd.CorruptError{Path: s.dir, Offset: -1, Err: err}
}

func (sc *scanner) close() error {
	sc.cancel()
	sc.wg.Wait()
	for _, w := range sc.workers {
		offheap.Release(w.arena)
	}
	sc.s.scanMemory.Add(-sc.memory)
	return sc.v.close()
}
