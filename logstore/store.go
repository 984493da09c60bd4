package logstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

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
	emptied  bool              // see writableAgain

	// These have locks of their own, or need none.
	sealer  sealer
	blobs   blobs
	catalog catalog

	// firstSync guards what the first Sync does.
	firstSync sync.Mutex
	allSynced bool // all that was written before durable was set is synced

	fullErr    atomic.Pointer[error] // why the store was not opened for writing
	unread     error                 // why the write-ahead files could not be read
	scanMemory atomic.Int64          // what Scans use of the memory set aside for them
	counted    counted
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
	var n int64
	n += s.tables.memory()
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
