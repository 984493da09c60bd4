package logstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/segment"
	"github.com/go-partd/partd/internal/storeerror"
)

// Store is an open store. It is safe for concurrent use.
type Store struct {
	// Locks are taken in this order: life, firstSync, mu, blobs.mu,
	// catalog.mu, directory.syncs.

	directory
	opts  Options
	hooks hooks

	format    segment.Format
	blobBytes int   // a value of this length or more is a blob
	maxBatch  int   // bytes of a record; more makes segments of its own
	readBytes int64 // what a Scan may load at once
	batches   chan *batch

	// life is held shared by whatever changes the store, and alone by Drop and
	// Close.
	life sync.RWMutex

	// mu guards what follows. Whoever holds it decides the order of appends.
	mu       sync.Mutex
	closed   bool
	temp     io.Closer // removes the directory of a temporary store, nil if it is none
	seq      uint64    // of the next record
	edits    uint64    // counts what changed the content, but for drops
	sessions sessionTable
	tables   tables
	wal      wal
	segments segments
	merging  merging
	reclaim  reclaiming
	changes  *sync.WaitGroup   // those that began since waitChanges was called
	sealing  bool              // a goroutine is writing the frozen table out
	sealErr  error             // why the last try failed
	sealed   chan struct{}     // closed when the try that is under way ends
	frozenAt func(m *manifest) // notes the state right after the last record of the frozen table
	emptied  bool              // dropped on a full disk, and not yet able to take changes: see change

	// These have locks of their own, or need none.
	sealer  sealer
	blobs   blobs
	catalog catalog

	// firstSync guards what the first Sync does.
	firstSync sync.Mutex
	allSynced bool // all that was written before durable was set is synced

	fullErr    atomic.Pointer[error]                                    // why the store was not opened for writing
	unread     error                                                    // why the write-ahead files could not be read
	scanMemory atomic.Int64                                             // what Scans use of the memory set aside for them
	counted    struct{ seals, sealFails, stalls, stalled atomic.Int64 } // for Figures
}

// ErrReadOnly is wrapped by the error for a change to a store that is open
// for reading only.
var ErrReadOnly = errors.New("the store is open for reading only")

func (s *Store) errorf(op string, err error) error {
	if err == nil {
		return nil
	}
	return &partd.Error{Op: op, Path: s.dir, Err: err}
}

// maybeApplied is the error of a write that may have taken effect. Whether that makes
// the outcome of an operation unknown depends on what was written: see outcome.
type maybeApplied struct{ error }

func (u maybeApplied) Unwrap() error { return u.error }

// outcome returns the error of an operation whose last step, which makes it
// count, failed with err. Errors of steps before are returned as they are: the
// operation did not take effect, whatever else is unclear.
func outcome(err error) error {
	if _, ok := errors.AsType[maybeApplied](err); ok {
		return fmt.Errorf("%w (%w)", err, partd.ErrUnknownOutcome)
	}
	return err
}

// writable returns why no write is possible, or nil. mu is held.
func (s *Store) writable() error {
	switch {
	case s.dir == "":
		return storeerror.ErrNotOpened
	case s.closed:
		return partd.ErrClosed
	case s.opts.ReadOnly:
		return ErrReadOnly
	case s.full() != nil:
		return s.full()
	}
	return s.poisoned()
}

// MemoryUsed returns the bytes that tables, buffers and the index of segments
// use.
func (s *Store) MemoryUsed() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.tables.memory()
	for _, g := range s.segments.list {
		n += g.Memory()
	}
	return n + s.merging.memory + int64(cap(s.batches)*s.maxBatch/2)
}

// Flush writes everything acknowledged so far from the tables to segments.
func (s *Store) Flush(ctx context.Context) error {
	s.life.RLock()
	defer s.life.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writable(); err != nil {
		return s.errorf("flush", err)
	}
	return s.errorf("flush", s.flushLocked(ctx))
}

// Figures describes an open store to those who monitor it. Counters start when
// the store is opened.
type Figures struct {
	Seals     int64         // tables written out as segments
	SealFails int64         // failed attempts to write a table out
	Stalls    int64         // changes that had to wait until a table was written out
	Stalled   time.Duration // the sum of these waits

	Segments int   // there are
	Disk     int64 // bytes of the files
	Dead     int64 // the part of Disk that is known to be garbage
	Unsealed int64 // bytes in tables, which are so far only in write-ahead files
	Memory   int64 // bytes in use
	Refusal  error // why the store refuses changes, nil if it accepts them
}

// Figures returns figures for monitoring. It looks up the size of each file but
// reads no file.
func (s *Store) Figures() (Figures, error) {
	disk, err := s.diskUsed()
	if err != nil {
		return Figures{}, s.errorf("figures", err)
	}
	f := Figures{
		Seals: s.counted.seals.Load(), SealFails: s.counted.sealFails.Load(),
		Stalls: s.counted.stalls.Load(), Stalled: time.Duration(s.counted.stalled.Load()),
		Disk: disk, Unsealed: s.Unsealed(), Memory: s.MemoryUsed(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.Segments, f.Refusal = len(s.segments.list), s.writable()
	f.Dead = min(s.reclaim.dead(), disk)
	return f, nil
}

// Unsealed returns the bytes in tables that are not written out yet. The call is
// cheap.
func (s *Store) Unsealed() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tables.inUse() {
		n += t.size
	}
	return n
}

// Close writes everything out and closes the store. Readers at work may
// finish. If Close cannot write something out, it returns an error; the data
// is still in the write-ahead files, from which the next Open recovers it. A
// second Close does nothing.
func (s *Store) Close() error {
	if s.dir == "" {
		return nil
	}
	// What is still in tables is written out first, since it may be the segment that
	// makes a merge due. If that fails, finish tries again, and says so.
	if !s.opts.ReadOnly && s.temp == nil {
		_ = s.Flush(context.Background())
	}
	s.stopMerging()
	s.life.Lock()
	defer s.life.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	var err error
	if !s.opts.ReadOnly && s.full() == nil && s.temp == nil {
		err = s.finish()
	}
	s.closed = true
	s.mu.Unlock()
	err = errors.Join(err, s.abandon())
	if s.temp != nil {
		err = errors.Join(err, s.temp.Close())
	}
	return s.errorf("close", err)
}

// finish brings the store into the state of one closed in order. mu is held.
func (s *Store) finish() error {
	if err := s.poisoned(); err != nil {
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

// abandon closes all files and gives back all memory.
func (s *Store) abandon() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.segments.closed = true, true
	s.waitSealed() // it uses what is given back here
	s.segments.release(s.segments.version)
	s.mu.Unlock()
	s.segments.discards.Wait()
	s.mu.Lock()
	errs := []error{s.wal.close()}
	if s.catalog.files != nil {
		s.lockForReaders()
		errs = append(errs, s.catalog.files.release())
	}
	s.tables.close()
	return errors.Join(append(errs, s.unlock())...)
}
