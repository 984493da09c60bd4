package logstore

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/segment"
)

// Store is an open store. It is safe for concurrent use.
type Store struct {
	directory
	opts  Options
	hooks hooks

	format    segment.Format
	readBytes int64 // maximum bytes that a Scan loads at a time

	locks

	// mu guards the fields below.
	temp       io.Closer // removes the directory of a temporary store; otherwise nil
	tables     tables
	wal        writeAhead
	journal    journal
	segments   segments
	views      views
	merging    merging
	reclaim    reclaiming
	changes    *sync.WaitGroup // changes that began after the last call of waitChanges
	mustResume bool            // the store is dropped and refuses changes; the next change tries to make it writable

	// The fields below have their own locks or need none.
	encoder
	sealer  sealer
	blobs   blobs
	catalog catalog

	syncing syncing

	scanMemory atomic.Int64 // bytes reserved by takeScanMemory
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
	return s.opError("flush", s.journal.flush(ctx))
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
		Seals: s.journal.counters.seals.Load(), SealFailures: s.journal.counters.sealFailures.Load(),
		Stalls: s.journal.counters.stalls.Load(), StallTime: time.Duration(s.journal.counters.stallTime.Load()),
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
	if err := s.journal.flush(context.Background()); err != nil {
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
	s.journal.waitSealed() // a seal uses the resources released here
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

// Sync waits until all changes that returned before the call are durable, so that they survive
// a power loss. After the first Sync, the store also syncs each new segment.
func (s *Store) Sync(ctx context.Context) error {
	if err := canceled.Err(ctx); err != nil {
		return s.opError("sync", err)
	}
	s.lifeMu.RLock()
	defer s.lifeMu.RUnlock()
	return s.opError("sync", commitError(s.syncing.all()))
}
