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
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
	"github.com/go-partd/partd/internal/storeerror"
	"github.com/go-partd/partd/internal/tempdir"
)

// Store is a store in a bucket. It is safe for concurrent use.
type Store struct {
	bucket  Bucket
	opts    Options
	format  *segment.Format
	writer  writerID
	ctx     context.Context // of uploads; ends when the store is closed
	stop    context.CancelFunc
	closed  atomic.Bool
	closing atomic.Bool // nothing is taken in meanwhile

	// committing is held by the one who commits. It goes before mu.
	committing turn
	seq        uint64 // of the last record of this writer
	number     uint64 // the lowest that may be free
	doubt      *commitment
	broken     error // the bucket was seen to break its promise: nothing is written any more

	// mu guards what was appended and is not committed yet.
	mu        turn
	active    *table
	spare     *table
	pending   []*piece    // in the order in which they were appended
	uploading []*piece    // the oldest first
	pieces    uint64      // begun so far
	encoders  []*encoder  // that no upload uses
	arenas    [][]byte    // that nothing uses
	crowded   atomic.Bool // so much is pending that it should be committed

	catalog catalog
	scans   scanMemory
	temp    *tempdir.Set // of readers; nil if there is no disk
	disk    atomic.Int64 // bytes that readers have taken of it
}

// turn is a mutex, for which one can wait no longer than a context.
type turn chan struct{}

func (t turn) lock(ctx context.Context) error {
	if err := canceled.Err(ctx); err != nil {
		return err
	}
	return canceled.Send(ctx, t, struct{}{})
}

func (t turn) unlock() { <-t }

// Open opens the store in a bucket, and creates one if there is none. It refuses a
// bucket that violates the rules of Bucket.Create, since a store in it would lose
// data.
func Open(ctx context.Context, bucket Bucket, opts *Options) (*Store, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, &partd.Error{Op: "open", Err: err}
	}
	s := &Store{bucket: orNone(bucket), opts: o, committing: make(turn, 1), mu: make(turn, 1)}
	_, _ = rand.Read(s.writer[:]) // it never fails
	s.catalog.store, s.catalog.mu, s.catalog.seqs = s, make(turn, 1), map[writerID]uint64{}
	s.scans.limit = o.scanMemory()
	if s.format, err = s.readStore(ctx); err != nil {
		return nil, &partd.Error{Op: "open", Path: place(bucket, storeName), Err: err}
	}
	s.format.KeyHash = o.hooks.keyHash
	if o.Disk > 0 {
		if s.temp, err = tempdir.New([]string{o.DiskDir}, &tempdir.Options{FS: o.hooks.fs}); err != nil {
			return nil, &partd.Error{Op: "open", Err: err}
		}
	}
	if !o.ReadOnly {
		if err := s.takeTables(); err != nil {
			return nil, &partd.Error{Op: "open", Err: err}
		}
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Exists reports whether a bucket holds a store.
func Exists(ctx context.Context, bucket Bucket) (bool, error) {
	r, err := orNone(bucket).ReadRange(ctx, storeName, 0, 1)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, r.Close()
}

// readStore reads STORE. Who may write makes it, and then makes it again, which the
// bucket must refuse. The bytes are those that are there, so that a bucket which
// overwrites them does no harm.
func (s *Store) readStore(ctx context.Context) (*segment.Format, error) {
	b, err := s.readObject(ctx, storeName)
	if errors.Is(err, fs.ErrNotExist) && !s.opts.ReadOnly {
		b, err = s.makeStore(ctx)
	}
	if err != nil {
		return nil, err
	}
	f, err := parseStore(b)
	if err != nil {
		return nil, corrupt(place(s.bucket, storeName), err)
	}
	if s.opts.ReadOnly {
		return f, nil
	}
	err = s.create(ctx, storeName, bytes.Clone(b))
	if err == nil {
		return nil, fmt.Errorf("%w: it creates an object that already exists, instead of answering 412 to If-None-Match: *; "+
			"no store in it would be safe from several writers: use a server that keeps to S3's conditional writes", ErrRefused)
	}
	if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return f, s.race(ctx)
}

// makeStore makes STORE, unless records of another store are there: with these in its log,
// nobody could read what is acknowledged from now on.
func (s *Store) makeStore(ctx context.Context) ([]byte, error) {
	others, err := s.hasRecords(ctx)
	if err == nil && !others {
		var random [16]byte
		_, _ = rand.Read(random[:])
		err = s.create(ctx, storeName, encodeStore(&segment.Format{ID: le.Uint64(random[:]), Seed: le.Uint64(random[8:])}))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	b, err := s.readObject(ctx, storeName) // which another one may have made
	if others && errors.Is(err, fs.ErrNotExist) {
		err = errors.New("it is missing, and objects below log/ or wait/ are there, of a store that was removed in part: " +
			"remove the rest, or take another prefix")
	}
	return b, err
}

func (s *Store) hasRecords(ctx context.Context) (bool, error) {
	_, size, err := s.listLog(ctx, "")
	found := size > 0
	if err == nil && !found {
		err = s.retry(ctx, func(ctx context.Context) error {
			for o, err := range s.bucket.List(ctx, waitPrefix, "") {
				if _, found = parseMember(o); found || err != nil {
					return err
				}
			}
			return nil
		})
	}
	return found, err
}

// create makes an object, or finds out that it is there.
func (s *Store) create(ctx context.Context, name string, data []byte) error {
	return s.retry(ctx, func(ctx context.Context) error { return s.bucket.Create(ctx, name, data) })
}

// readObject reads a small object whole.
func (s *Store) readObject(ctx context.Context, name string) (b []byte, err error) {
	err = s.retry(ctx, func(ctx context.Context) error { b, err = s.readPart(ctx, name, 0, -1); return err })
	return b, err
}

// Close flushes the store and frees its memory. If the flush fails, Close returns
// the error and the store stays open, unless its changes can never be committed.
func (s *Store) Close() error {
	if s.bucket == nil || s.closed.Load() {
		return nil
	}
	if !s.opts.ReadOnly {
		ctx, cancel := context.WithTimeout(context.Background(), 10*s.opts.RetryFor+time.Second)
		defer cancel()
		if err := s.committing.lock(ctx); err != nil {
			return &partd.Error{Op: "close", Err: err}
		}
		defer s.committing.unlock()
		if s.closed.Load() {
			return nil
		}
		s.closing.Store(true) // who goes on appending does not keep it from its end
		defer s.closing.Store(false)
		if err := s.flush(ctx, true); err != nil {
			if errors.Is(err, errTooOld) || s.broken != nil {
				s.giveUp()
			}
			return s.errorf("close", err)
		}
	}
	s.closed.Store(true)
	s.stop()
	return s.temp.Close() // readers that are under way have their files open
}

// giveUp closes a store that can never flush again. committing is held.
func (s *Store) giveUp() {
	s.stop()
	s.mu <- struct{}{} // who holds it waits for uploads, which have just been stopped
	defer s.mu.unlock()
	s.closed.Store(true)
	for _, p := range s.uploading {
		<-p.done
		s.encoders = append(s.encoders, p.encoder)
	}
	s.uploading = nil
	s.releaseTables()
	_ = s.temp.Close() // what is left, the next one sweeps
}

// usable is what every operation begins with.
func (s *Store) usable(ctx context.Context, writes bool) error {
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
		n += arenas*encodedBound(s.tableSize()) + 2*refMemory(s.tableSize())
	}
	return n
}

// scratchPrefix is what the names of objects begin with that are made and removed.
const scratchPrefix = "sweep/"

// Who opens a store for writing has raceCreators make an object at the same time, and again
// with another, raceRounds in all.
const (
	raceRounds   = 3
	raceCreators = 4
)

// errTwoWinners is of a bucket that looks whether there is an object, and then makes it.
var errTwoWinners = errors.New("the bucket lets two writers make the same object at the same time, and keeps one of them: " +
	"no store in it is safe from several writers: use a server that keeps to S3's conditional writes")

// race refuses a bucket that lets more than one of several creators win.
func (s *Store) race(ctx context.Context) error {
	for range raceRounds {
		name := scratchPrefix + rand.Text()
		var errs [raceCreators]error
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = s.create(ctx, name, []byte{byte(i)}) })
		}
		wg.Wait()
		// One that stays is swept. Who may write here need not be allowed to delete.
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
			return fmt.Errorf("%w: %d of %d creators of %s won: %w", ErrRefused, winners, raceCreators, place(s.bucket, name), errTwoWinners)
		}
	}
	return nil
}
