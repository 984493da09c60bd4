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
)

// Store is an open store. It is safe for concurrent use.
//
// Locks are taken in this order: life, firstSync, wal.mu, mu, blobMu, manMu,
// syncs.
type Store struct {
	directory
	opts  Options
	hooks hooks

	format    segment.Format
	partBits  uint8
	blobBytes int   // a value of this length or more is a blob
	maxBatch  int   // bytes of a record
	readBytes int64 // what a Scan may load at once
	batches   chan *batch

	// life is held shared by whatever changes the store, and alone by Drop and
	// Close.
	life sync.RWMutex

	// mu guards what follows. Whoever holds it decides the order of appends.
	mu       sync.Mutex
	closed   bool
	temp     io.Closer // removes the directory of a temporary store, nil if it is none
	active   *table
	frozen   *table // being written out, nil if none is
	seq      uint64 // of the next record
	sessions sessionTable
	segments []*storedSegment // replaced, never changed
	version  *version         // of segments
	// oldVersions is how many versions before it are still being read.
	oldVersions int
	merging     merging
	reclaim     reclaiming
	changes     *sync.WaitGroup // those that began since waitChanges was called
	tables      []*table        // of a store opened for reading: what the write-ahead files held
	sealing     bool            // a goroutine is writing frozen out
	sealErr     error           // why the last try failed
	sealed      chan struct{}   // closed when the try that is under way ends
	frozenAt    frozenState
	emptied     bool // see writableAgain

	wal  wal
	free chan *table // the table that is not in use
	made int         // how many tables there are, but for spare ones

	// A reader that may be slow holds tables only where they could not be
	// written out. So that nobody has to wait for it, others take their place
	// meanwhile. Guarded by mu.
	slowViews int // how many such readers there are
	spares    int // how many tables there are beyond the usual two

	blobMu   sync.Mutex
	blobFile *dataFile

	catalog catalog

	// firstSync guards what the first Sync does.
	firstSync sync.Mutex

	// Used by one goroutine at a time: the one that seals, or Drop, bulk and
	// recovery, which exclude it.
	segmentFile *dataFile
	rotate      atomic.Bool // the next segment goes to a new file
	compressor  *segment.Compressor
	sealBufs    [2][]byte // see segmentWriter.bufs

	allSynced bool                  // all that was written before durable was set is synced; guarded by firstSync
	fullErr   atomic.Pointer[error] // why the store was not opened for writing
	unread    error                 // why the write-ahead files could not be read
	manyHot   atomic.Bool           // hot runs take as much memory as they may
	scanning  atomic.Bool           // a Scan uses the memory set aside for reads

	tableBytes int64
	dataBytes  atomic.Int64   // about what segments and blob files take
	discards   sync.WaitGroup // of files that were merged
	wasted     atomic.Int64   // bytes that Gets read in vain
	wasteLimit atomic.Int64   // from which on it is to be looked whether to merge
}

// frozenState is the state of the store right after the last record of the
// frozen table.
type frozenState struct {
	liveEpoch uint64
	nextSeq   uint64
	sessions  sessionTable
}

var (
	_ partd.Partd      = (*Store)(nil)
	_ partd.Setter     = (*Store)(nil)
	_ partd.Deleter    = (*Store)(nil)
	_ partd.Lister     = (*Store)(nil)
	_ partd.Opener     = (*Store)(nil)
	_ partd.Scanner    = (*Store)(nil)
	_ partd.Popper     = (*Store)(nil)
	_ partd.Flusher    = (*Store)(nil)
	_ partd.Syncer     = (*Store)(nil)
	_ partd.Statter    = (*Store)(nil)
	_ partd.MemoryUser = (*Store)(nil)
)

// ErrReadOnly is wrapped by every change to a store opened for reading only.
var ErrReadOnly = errors.New("the store is open for reading only")

// errorf returns an error of the store.
func (s *Store) errorf(op string, err error) error {
	if err == nil {
		return nil
	}
	return &partd.Error{Op: op, Path: s.dir, Err: err}
}

// unclear is the error of a write that may have taken effect. Whether that makes
// the outcome of an operation unknown depends on what was written: see outcome.
type unclear struct{ error }

func (u unclear) Unwrap() error { return u.error }

// outcome returns the error of an operation whose last step, which makes it
// count, failed with err. Errors of steps before are returned as they are: the
// operation did not take effect, whatever else is unclear.
func outcome(err error) error {
	if u := (unclear{}); errors.As(err, &u) {
		return fmt.Errorf("%w (%w)", err, partd.ErrUnknownOutcome)
	}
	return err
}

// writable tells why no write is possible. mu is held.
func (s *Store) writable() error {
	switch {
	case s.closed:
		return partd.ErrClosed
	case s.opts.ReadOnly:
		return ErrReadOnly
	case s.full() != nil:
		return s.full()
	}
	return s.poisoned()
}

// MemoryUsed returns the bytes in use for tables, buffers and what is known of
// segments.
func (s *Store) MemoryUsed() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int64
	for _, t := range append([]*table{s.active, s.frozen}, s.tables...) {
		if t != nil {
			n += int64(t.chunks * t.chunkSize)
		}
	}
	if s.spares > 0 { // as many are held by slow readers
		n += int64(s.spares) * s.tableBytes
	}
	for _, g := range s.segments {
		n += g.Memory()
	}
	return n + s.merging.memory + int64(cap(s.batches)*s.maxBatch/2)
}

// Flush writes all that was acknowledged out of the tables into segments.
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
