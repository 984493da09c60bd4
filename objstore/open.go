package objstore

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/tempdir"
)

// Open opens the store in a bucket, and creates it if it does not exist. It returns an error if
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
