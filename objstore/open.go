package objstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/engine/segment"
)

// Store is a store in a bucket. It is safe for concurrent use.
type Store struct {
	bucket  Bucket
	opts    Options
	format  *segment.Format
	writer  writerID
	ctx     context.Context // context of uploads; canceled when the store is closed
	stop    context.CancelFunc
	closed  atomic.Bool
	closing atomic.Bool // Close is running, and appends fail

	// commitMu must be held to commit. Lock order: commitMu, mu.
	commitMu   ctxMutex
	lastSeq    uint64
	nextNumber uint64      // all lower numbers of the log are in use
	commitment *commitment // a commit with unknown outcome, or nil
	brokenErr  error       // set when the bucket violated the rules of Bucket.Create; then the store no longer writes

	// mu guards the fields below, which hold changes that are not yet committed.
	mu          ctxMutex
	active      *table
	spare       *table   // the previous table, which is being encoded or already empty
	pending     []*piece // in the order of the appends
	uploading   []*piece // oldest first
	pieceCount  uint64
	encoders    []*encoder  // unused encoders
	arenas      [][]byte    // unused arenas
	pendingFull atomic.Bool // too many pieces are pending, so the next Append must flush first

	catalog catalog
	scans   scanMemory
	temp    *tempdir.Set // temporary directory of readers; nil if Options.Disk is 0
	disk    atomic.Int64 // bytes that readers have reserved for files in temp
}

// ctxMutex is a mutex that can be locked with a context.
type ctxMutex chan struct{}

func (t ctxMutex) lock(ctx context.Context) error {
	if err := canceled.Err(ctx); err != nil {
		return err
	}
	return canceled.Send(ctx, t, struct{}{})
}

func (t ctxMutex) unlock() { <-t }

// Open opens the store in a bucket, and creates it if it does not exist. It returns an error if
// the bucket violates the rules of Bucket.Create, because a store there would lose data.
func Open(ctx context.Context, bucket Bucket, opts *Options) (*Store, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, &partd.Error{Op: "open", Err: err}
	}
	s := &Store{bucket: nonNil(bucket), opts: o, commitMu: make(ctxMutex, 1), mu: make(ctxMutex, 1)}
	_, _ = rand.Read(s.writer[:]) // never fails
	s.catalog.store, s.catalog.mu, s.catalog.seqs = s, make(ctxMutex, 1), map[writerID]uint64{}
	s.scans.limit = o.scanMemory()
	if s.format, err = s.readStore(ctx); err != nil {
		return nil, &partd.Error{Op: "open", Path: objectPath(bucket, storeName), Err: err}
	}
	s.format.KeyHash = o.hooks.keyHash
	if o.Disk > 0 {
		s.temp, err = tempdir.New([]string{o.DiskDir}, o.hooks.fs)
	}
	if err == nil && !o.ReadOnly {
		err = s.allocateTables()
	}
	if err != nil {
		return nil, &partd.Error{Op: "open", Err: err}
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Exists reports whether a bucket contains a store.
func Exists(ctx context.Context, bucket Bucket) (bool, error) {
	r, err := nonNil(bucket).ReadRange(ctx, storeName, 0, 1)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, r.Close()
}

// readStore reads the object STORE, which identifies the store. If the store is not read-only, readStore
// creates a missing object. It then tries to create the object again with the same content, to test
// that the bucket refuses this.
func (s *Store) readStore(ctx context.Context) (*segment.Format, error) {
	b, err := s.readObject(ctx, storeName)
	if errors.Is(err, fs.ErrNotExist) && !s.opts.ReadOnly {
		b, err = s.createStore(ctx)
	}
	if err != nil {
		return nil, err
	}
	f, err := parseStore(b)
	if err != nil {
		return nil, corrupt(objectPath(s.bucket, storeName), err)
	}
	if s.opts.ReadOnly {
		return f, nil
	}
	err = s.create(ctx, storeName, bytes.Clone(b))
	if err == nil {
		return nil, fmt.Errorf("%w: it overwrites an existing object instead of answering 412 to If-None-Match: *, "+
			"so a store with several writers would lose data: use a server that supports S3's conditional writes", ErrRefused)
	}
	if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return f, s.checkRace(ctx)
}

// createStore creates the object STORE, unless the bucket contains records of an earlier store, which
// the new store could not read.
func (s *Store) createStore(ctx context.Context) ([]byte, error) {
	hasOtherRecords, err := s.hasRecords(ctx)
	if err == nil && !hasOtherRecords {
		var random [16]byte
		_, _ = rand.Read(random[:])
		err = s.create(ctx, storeName, encodeStore(&segment.Format{ID: le.Uint64(random[:]), Seed: le.Uint64(random[8:])}))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	b, err := s.readObject(ctx, storeName) // another process may have created the object
	if hasOtherRecords && errors.Is(err, fs.ErrNotExist) {
		err = errors.New("the object STORE is missing, but objects of a partly removed store exist below log/ or wait/: " +
			"remove them, or use another prefix")
	}
	return b, err
}

func (s *Store) hasRecords(ctx context.Context) (bool, error) {
	_, size, err := s.listLog(ctx, "")
	exists := size > 0
	if err == nil && !exists {
		err = s.retry(ctx, func(ctx context.Context) error {
			for o, err := range s.bucket.List(ctx, waitPrefix, "") {
				if _, exists = parseMember(o); exists || err != nil {
					return err
				}
			}
			return nil
		})
	}
	return exists, err
}

// create creates an object. If it exists, the error wraps fs.ErrExist.
func (s *Store) create(ctx context.Context, name string, data []byte) error {
	return s.retry(ctx, func(ctx context.Context) error { return s.bucket.Create(ctx, name, data) })
}

func (s *Store) readObject(ctx context.Context, name string) (b []byte, err error) {
	err = s.retry(ctx, func(ctx context.Context) error { b, err = s.readPart(ctx, name, 0, -1); return err })
	return b, err
}

// Close flushes the store and frees its memory. If the flush fails, Close returns the error, and the
// store stays open unless the changes can never be committed.
func (s *Store) Close() error {
	if s.bucket == nil || s.closed.Load() {
		return nil
	}
	if !s.opts.ReadOnly {
		ctx, cancel := context.WithTimeout(context.Background(), 10*s.opts.RetryFor+time.Second)
		defer cancel()
		if err := s.commitMu.lock(ctx); err != nil {
			return s.errorf("close", err)
		}
		defer s.commitMu.unlock()
		if s.closed.Load() {
			return nil
		}
		s.closing.Store(true) // appends now fail, so they cannot delay Close forever
		defer s.closing.Store(false)
		if err := s.flush(ctx, true); err != nil {
			if errors.Is(err, errTooOld) || s.brokenErr != nil {
				s.closeBroken()
			}
			return s.errorf("close", err)
		}
	}
	s.closed.Store(true)
	s.stop()
	return s.temp.Close() // readers that are still running keep their open files
}

// closeBroken closes a store whose changes can never be committed. commitMu must be held.
func (s *Store) closeBroken() {
	s.stop()
	s.mu <- struct{}{} // does not block for long: the holder may wait for uploads, but these were just canceled
	defer s.mu.unlock()
	s.closed.Store(true)
	for _, p := range s.uploading {
		<-p.uploadDone
		s.encoders = append(s.encoders, p.encoder)
	}
	s.uploading = nil
	s.releaseTables()
	_ = s.temp.Close() // the next process removes leftover files
}

// checkUsable returns an error if the store is closed or ctx has ended. If writes is true, it also
// returns an error if the store cannot be changed.
func (s *Store) checkUsable(ctx context.Context, writes bool) error {
	switch {
	case ctx.Err() != nil:
		return canceled.Err(ctx)
	case s.bucket == nil:
		return storeerror.ErrNotOpened
	case s.closed.Load():
		return partd.ErrClosed
	case writes && s.opts.ReadOnly:
		return errors.New("the store is open for reading only")
	}
	return nil
}

// MemoryUsed returns the bytes in use for data and its index.
func (s *Store) MemoryUsed() int64 {
	n := s.catalog.memory.Load() + s.scans.used.Load()
	if !s.opts.ReadOnly && !s.closed.Load() {
		n += arenaCount*maxEncodedSize(s.tableSize()) + 2*refMemory(s.tableSize())
	}
	return n
}

// scratchPrefix is the prefix of the names of temporary objects.
const scratchPrefix = "sweep/"

// To test the bucket, Open creates the same object raceCreators times at once, and repeats this
// with raceRounds objects. Only one creation of each object may succeed.
const (
	raceRounds   = 3
	raceCreators = 4
)

// errTwoWinners means that the bucket does not check and create an object in one atomic step.
var errTwoWinners = errors.New("the bucket let two writers create the same object at the same time, and kept only one, " +
	"so a store with several writers would lose data: use a server that supports S3's conditional writes")

// checkRace returns an error if the bucket lets several creations of one object succeed.
func (s *Store) checkRace(ctx context.Context) error {
	for range raceRounds {
		name := scratchPrefix + rand.Text()
		var errs [raceCreators]error
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = s.create(ctx, name, []byte{byte(i)}) })
		}
		wg.Wait()
		// Ignore errors, because writers may lack the permission to delete. Sweep will delete the object.
		_ = s.bucket.Delete(ctx, name)
		winners := 0
		for _, err := range errs {
			switch {
			case err == nil:
				winners++
			case !errors.Is(err, fs.ErrExist):
				return err
			}
		}
		if winners > 1 {
			return fmt.Errorf("%w: %d of %d creators of %s succeeded: %w", ErrRefused, winners, raceCreators, objectPath(s.bucket, name), errTwoWinners)
		}
	}
	return nil
}
