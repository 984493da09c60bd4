package logstore

import (
	"cmp"
	"context"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/offheap"
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

// run starts the workers of a scan of v. The caller must close the result.
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
