package objstore

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/storeerror"
)

// Store is a store in a bucket. It is safe for concurrent use.
type Store struct {
	objects
	stop    context.CancelFunc // cancels the uploads
	closed  atomic.Bool
	closing atomic.Bool // Close is running, and appends fail

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
