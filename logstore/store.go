package logstore

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/segment"
)

// Store is an open store. It is safe for concurrent use.
//
// Store has the API and the locks that its parts share (see storeLocks); the parts have the other
// methods. mu guards the parts that do not name another lock.
type Store struct {
	directory
	storeLocks
	opts   Options
	hooks  hooks
	format segment.Format

	temp       io.Closer // removes the directory of a temporary store; otherwise nil
	mustResume bool      // the store is dropped and refuses changes; the next change tries to make it writable

	// The content.
	catalog  catalog
	blobs    blobWriter
	segments segmentList
	tables   memtables
	wal      writeAhead

	// Changes and their durability.
	encoder
	sealer  sealer
	journal journal
	syncer  syncer

	// Reads.
	views views
	scans scans

	// Merges and space reclaiming.
	reclaim    reclaiming
	merging    merging
	reclaimer  reclaimer
	background background
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

// Flush writes all data in memory to segments. It does nothing if the store is open only for reading.
func (s *Store) Flush(ctx context.Context) error {
	s.lifeMu.RLock()
	defer s.lifeMu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.checkWritable()
	if err == nil {
		err = s.journal.flush(ctx)
	}
	if errors.Is(err, ErrReadOnly) {
		return nil
	}
	return s.opError("flush", storeerror.RetriedByClose(err))
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
	if s.dir == "" {
		return Metrics{}, s.opError("metrics", partd.ErrClosed)
	}
	disk, err := s.journal.diskUsed()
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

// hangTime limits both how long a sync takes and how long it continues after its caller has given up. Beyond both
// limits, the disk counts as hanging.
const hangTime = time.Minute

// Sync waits until all changes that returned before the call are durable, so that they survive
// a power loss. After the first Sync, the store also syncs each new segment.
//
// If ctx ends first, Sync returns an error, but the disk still syncs. If the disk has not finished a
// minute later, the store refuses writes until it is reopened. Waiting for other calls, such as a
// Drop, does not count.
func (s *Store) Sync(ctx context.Context) error {
	if err := canceled.Err(ctx); err != nil {
		return s.opError("sync", err)
	}
	if s.dir == "" {
		return s.opError("sync", storeerror.ErrNotOpened)
	}
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.lifeMu.RLock()
		defer s.lifeMu.RUnlock()
		err = commitError(s.syncer.syncAll())
	}()
	if ended := canceled.Wait(ctx, done); ended != nil {
		go s.watchSync(done)
		return s.opError("sync", ended)
	}
	return s.opError("sync", err)
}

// watchSync watches a Sync whose caller has given up, until done is closed. If the disk hangs, the store refuses
// writes. Time that the Sync spends waiting for locks, for example during a Drop, does not count.
func (s *Store) watchSync(done <-chan struct{}) {
	for left := hangTime; left > 0; left = hangTime - s.longestSync() {
		select {
		case <-done:
			return
		case <-time.After(left):
		}
	}
	_ = s.poison(errHanging) // later calls return it
}

// Reclaim frees the space of deleted and replaced data now, even if there is too little for the
// store to do so on its own. Call Reclaim if the disk runs out of space. It searches for such
// data at most every ten seconds, and only if there may be new data to find. It skips files that
// are less than half dead.
//
// Reclaim returns the number of bytes freed during the call. If ctx ends first, the store continues to reclaim
// space in the background.
func (s *Store) Reclaim(ctx context.Context) (freed int64, err error) {
	if s.dir == "" {
		return 0, s.opError("reclaim", storeerror.ErrNotOpened)
	}
	freed, err = s.background.reclaimNow(ctx)
	return freed, s.opError("reclaim", err)
}

// Open opens the store in a directory, creating it if it does not exist. It recovers
// from a crash: see [Store.Recovery]. If the disk is too full for recovery, the store
// supports only reads and Drop; every other change fails with an error that wraps ENOSPC.
func Open(dir string, opts *Options) (*Store, error) {
	return openHooked(dir, opts, hooks{fs: vfs.OS{}})
}

// OpenTemp opens a temporary store in a new subdirectory of dir, or of os.TempDir if dir is empty.
// Close removes the subdirectory. If the process dies first, the next temporary store, or the next
// job with temporary files in dir, removes it.
func OpenTemp(dir string, opts *Options) (*Store, error) {
	path, temp, err := tempdir.NewDir(dir)
	if err != nil {
		return nil, &partd.Error{Op: "open", Path: dir, Err: err}
	}
	s, err := Open(path, opts)
	if err != nil {
		return nil, errors.Join(err, temp.Close())
	}
	s.temp = temp
	return s, nil
}

func openHooked(dir string, o *Options, h hooks) (*Store, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, &partd.Error{Op: "open", Path: dir, Err: err}
	}
	if dir == "" {
		return nil, &partd.Error{Op: "open", Err: errors.New("the directory name is empty")}
	}
	dir, err = filepath.Abs(dir) // the store must not move if the working directory changes
	if err != nil {
		return nil, &partd.Error{Op: "open", Path: dir, Err: err}
	}
	newEmpty := func() *Store { return newStore(dir, opts, h) }
	s, err := newEmpty().startOrReadOnly(newEmpty)
	if err != nil {
		return nil, s.opError("open", errors.Join(err, s.releaseAll()))
	}
	return s, nil
}

// Recovery describes the data that Open recovered.
func (s *Store) Recovery() Recovery { return s.wal.recovery }

// Close writes all data to segments and closes the store. Open readers remain usable. If
// writing fails, Close returns the error, and the next Open recovers the data from the
// write-ahead files. A second Close does nothing.
func (s *Store) Close() error {
	if s.dir == "" {
		return nil
	}
	// Flush before background.stop, because the new segment may start a merge. If the flush fails,
	// finish flushes again and returns the error.
	if !s.opts.ReadOnly && s.temp == nil {
		_ = s.Flush(context.Background())
	}
	s.background.stop()
	s.lifeMu.Lock()
	defer s.lifeMu.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	var err error
	if !s.opts.ReadOnly && s.noWALError() == nil && s.temp == nil {
		err = s.journal.finish()
	}
	s.closed = true
	s.mu.Unlock()
	err = errors.Join(err, s.releaseAll())
	if s.temp != nil {
		err = errors.Join(err, s.temp.Close())
	}
	return s.opError("close", err)
}
