package logstore

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/engine/segment"
)

// Store is an open store. It is safe for concurrent use.
type Store struct {
	// Lock order: lifeMu, firstSync, mu, blobs.mu, catalog.mu, directory.syncMu.

	directory
	opts  Options
	hooks hooks

	format    segment.Format
	blobBytes int   // values of at least this length are stored in blob files
	maxBatch  int   // maximum bytes of a write-ahead record; a larger operation writes segments directly
	readBytes int64 // maximum bytes that a Scan loads at a time
	batches   chan *batch

	// Every change holds lifeMu shared; Drop and Close hold it exclusively.
	lifeMu sync.RWMutex

	// mu guards the fields below. Appends hold mu one after another, and take effect in that order.
	mu             sync.Mutex
	closed         bool
	temp           io.Closer // removes the directory of a temporary store; otherwise nil
	seq            uint64    // number of the next record
	editCount      uint64    // number of changes to the content since Open, except drops
	sessions       sessionTable
	tables         tables
	wal            writeAhead
	segments       segments
	merging        merging
	reclaim        reclaiming
	changes        *sync.WaitGroup   // changes that began after the last call of waitChanges
	sealing        bool              // a goroutine is sealing the frozen table: writing it to a segment
	sealErr        error             // error of the last seal, if it failed
	sealDone       chan struct{}     // closed when the current seal ends
	setFrozenState func(m *manifest) // updates the manifest when the frozen table is sealed
	mustResume     bool              // the store is dropped and refuses changes; the next change tries to make it writable

	// The fields below have their own locks or need none.
	sealer  sealer
	blobs   blobs
	catalog catalog

	firstSync sync.Mutex // held during the first Sync
	allSynced bool       // everything written before durable was set is synced

	walErr     error                                                         // why the write-ahead files could not be read, or nil
	scanMemory atomic.Int64                                                  // bytes reserved by takeScanMemory
	counters   struct{ seals, sealFailures, stalls, stallTime atomic.Int64 } // for Metrics
}

// checkWritable returns nil, or the reason why the store accepts no writes. mu must be held.
func (s *Store) checkWritable() error {
	switch {
	case s.dir == "":
		return storeerror.ErrNotOpened
	case s.closed:
		return partd.ErrClosed
	case s.opts.ReadOnly:
		return ErrReadOnly
	}
	return cmp.Or(s.checkPoisoned(), s.fullError())
}

// MemoryUsed returns the bytes in use by tables, buffers and the index of segments.
func (s *Store) MemoryUsed() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.tables.memory()
	for _, seg := range s.segments.list {
		n += seg.MemoryUsed()
	}
	return n + s.merging.memory + int64(cap(s.batches)*s.maxBatch/2)
}

// Flush writes all data in memory to segments.
func (s *Store) Flush(ctx context.Context) error {
	s.lifeMu.RLock()
	defer s.lifeMu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.checkWritable(); err != nil {
		return s.opError("flush", err)
	}
	return s.opError("flush", s.flushLocked(ctx))
}

// Metrics describes an open store for monitoring. Counters start at zero when the store is opened.
type Metrics struct {
	Seals        int64         // tables in memory that were written as segments
	SealFailures int64         // failed attempts to write a table
	Stalls       int64         // changes that waited until a table was written
	StallTime    time.Duration // total time of these waits

	Segments      int   // number of segments
	DiskBytes     int64 // size of the files, in bytes
	DeadBytes     int64 // known garbage, included in DiskBytes
	UnsealedBytes int64 // size of data that is only in memory and in write-ahead files, in bytes
	MemoryUsed    int64 // memory in use, in bytes
	Refusal       error // the reason why the store refuses changes, or nil
}

// Metrics returns the current metrics. It queries the size of each file, but reads no data.
func (s *Store) Metrics() (Metrics, error) {
	disk, err := s.diskUsed()
	if err != nil {
		return Metrics{}, s.opError("metrics", err)
	}
	m := Metrics{
		Seals: s.counters.seals.Load(), SealFailures: s.counters.sealFailures.Load(),
		Stalls: s.counters.stalls.Load(), StallTime: time.Duration(s.counters.stallTime.Load()),
		DiskBytes: disk, UnsealedBytes: s.UnsealedBytes(), MemoryUsed: s.MemoryUsed(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m.Segments, m.Refusal = len(s.segments.list), s.checkWritable()
	m.DeadBytes = min(s.reclaim.dead(), disk)
	return m, nil
}

// UnsealedBytes returns the size of the data that is not yet in segments, in bytes.
func (s *Store) UnsealedBytes() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tables.inUse() {
		n += t.size
	}
	return n
}

// Close writes all data to segments and closes the store. Open readers remain usable. If
// writing fails, Close returns the error, and the next Open recovers the data from the
// write-ahead files. A second Close does nothing.
func (s *Store) Close() error {
	if s.dir == "" {
		return nil
	}
	// Flush before stopMerging, because the new segment may start a merge. If the flush fails,
	// finish flushes again and returns the error.
	if !s.opts.ReadOnly && s.temp == nil {
		_ = s.Flush(context.Background())
	}
	s.stopMerging()
	s.lifeMu.Lock()
	defer s.lifeMu.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	var err error
	if !s.opts.ReadOnly && s.fullError() == nil && s.temp == nil {
		err = s.finish()
	}
	s.closed = true
	s.mu.Unlock()
	err = errors.Join(err, s.releaseAll())
	if s.temp != nil {
		err = errors.Join(err, s.temp.Close())
	}
	return s.opError("close", err)
}

// finish writes all data to segments and marks the store as cleanly closed. mu must be held.
func (s *Store) finish() error {
	if err := s.checkPoisoned(); err != nil {
		return err
	}
	if err := s.flushLocked(context.Background()); err != nil {
		return err
	}
	if err := s.catalog.edit(func(m *manifest) { m.clean = true }); err != nil {
		return err
	}
	return s.wal.remove()
}

func (s *Store) releaseAll() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.segments.closed = true, true
	s.waitSealed() // a seal uses the resources released here
	s.segments.release(s.segments.version)
	s.mu.Unlock()
	s.segments.discards.Wait()
	s.mu.Lock()
	errs := []error{s.wal.close()}
	if s.catalog.files != nil {
		s.catalog.lockForReaders()
		errs = append(errs, s.catalog.files.release())
	}
	s.tables.close()
	return errors.Join(append(errs, s.unlock())...)
}
