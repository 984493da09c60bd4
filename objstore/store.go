package objstore

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/disk/tempdir"
)

// Store is a store in a bucket. It is safe for concurrent use.
type Store struct {
	objects
	stop    context.CancelFunc // cancels the uploads
	closed  atomic.Bool
	closing atomic.Bool // Close is running, so appends fail

	// Lock order: committer.mu, buffer.mu. Nothing else is locked while catalog.mu is held.
	committer committer
	buffer    buffer
	catalog   catalog
	scans     scanMemory
	disk      scanDisk
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

func (s *Store) errorf(op string, err error) error {
	if err == nil {
		return nil
	}
	return &partd.Error{Op: op, Path: objectPath(s.bucket, ""), Err: err}
}

// MemoryUsed returns the bytes in use for data and its index.
func (s *Store) MemoryUsed() int64 {
	n := s.catalog.memory.Load() + s.scans.used.Load()
	if !s.opts.ReadOnly && !s.closed.Load() {
		n += arenaCount*maxEncodedSize(s.opts.tableSize()) + 2*refMemory(s.opts.tableSize())
	}
	return n
}

// Open opens the store in a bucket or creates it if it does not exist. It returns an error if
// the bucket violates the rules of Bucket.Create, because a store there would lose data.
func Open(ctx context.Context, bucket Bucket, opts *Options) (*Store, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, &partd.Error{Op: "open", Err: err}
	}
	s := &Store{objects: objects{bucket: nonNil(bucket), opts: o}}
	_, _ = rand.Read(s.writer[:]) // never fails
	s.committer.objects, s.committer.buffer, s.committer.mu = &s.objects, &s.buffer, make(ctxMutex, 1)
	s.buffer.objects, s.buffer.mu, s.buffer.uploads.objects = &s.objects, make(ctxMutex, 1), &s.objects
	s.catalog.init(&s.objects)
	s.scans.limit = o.scanMemory()
	s.disk.opts = &s.opts
	s.format, err = s.readStore(ctx)
	if err != nil {
		return nil, &partd.Error{Op: "open", Path: objectPath(bucket, storeName), Err: err}
	}
	s.format.KeyHash = o.hooks.keyHash
	if o.Disk > 0 {
		s.disk.temp, err = tempdir.New([]string{o.DiskDir}, o.hooks.fs)
	}
	if err == nil && !o.ReadOnly {
		err = s.buffer.allocate()
	}
	if err != nil {
		return nil, &partd.Error{Op: "open", Err: err}
	}
	s.buffer.uploads.ctx, s.stop = context.WithCancel(context.Background())
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

// Close flushes the store and frees its memory. If the flush fails, Close returns the error, and the
// store stays open unless the changes can never be committed.
func (s *Store) Close() error {
	if s.bucket == nil || s.closed.Load() {
		return nil
	}
	if !s.opts.ReadOnly {
		ctx, cancel := context.WithTimeout(context.Background(), 10*s.opts.RetryFor+time.Second)
		defer cancel()
		if err := s.committer.mu.lock(ctx); err != nil {
			return s.errorf("close", err)
		}
		defer s.committer.mu.unlock()
		if s.closed.Load() {
			return nil
		}
		s.closing.Store(true) // appends now fail, so they cannot delay Close forever
		defer s.closing.Store(false)
		if err := s.flush(ctx, true); err != nil {
			if errors.Is(err, errTooOld) || s.committer.brokenErr != nil {
				s.closeBroken()
			}
			return s.errorf("close", err)
		}
	}
	s.closed.Store(true)
	s.stop()
	return s.disk.temp.Close() // readers that are still running keep their open files
}

// closeBroken closes a store whose changes can never be committed. committer.mu must be held.
func (s *Store) closeBroken() {
	s.stop()
	s.buffer.mu <- struct{}{} // does not block for long: the holder may wait for uploads, but these were just canceled
	defer s.buffer.mu.unlock()
	s.closed.Store(true)
	s.buffer.uploads.awaitCanceled()
	s.buffer.release()
	_ = s.disk.temp.Close() // the next process removes leftover files
}
