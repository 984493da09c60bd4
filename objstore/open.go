package objstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/segment"
)

// Store is a store in a bucket.
type Store struct {
	bucket Bucket
	opts   Options
	format *segment.Format
	writer writerID
	ctx    context.Context // of uploads; ends when the store is closed
	stop   context.CancelFunc
	closed atomic.Bool
	counts struct{ retries atomic.Int64 }

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
	crowded   atomic.Bool // so much is pending that it should be committed

	catalog catalog
	scans   scanMemory
}

// turn is a mutex, for which one can wait no longer than a context.
type turn chan struct{}

func (t turn) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t turn) unlock() { <-t }

// Open opens the store of a bucket, and makes it where there is none. A bucket that
// does not keep to [Bucket.Create] is refused: a store in it would lose data.
func Open(ctx context.Context, bucket Bucket, opts *Options) (*Store, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, &partd.Error{Op: "open", Err: err}
	}
	s := &Store{bucket: bucket, opts: o, committing: make(turn, 1), mu: make(turn, 1)}
	_, _ = rand.Read(s.writer[:]) // it never fails
	s.catalog.store, s.catalog.seqs = s, map[writerID]uint64{}
	s.scans.limit = o.Memory / 2
	if s.format, err = s.readStore(ctx); err != nil {
		return nil, &partd.Error{Op: "open", Path: place(bucket, storeName), Err: err}
	}
	s.format.KeyHash = o.hooks.keyHash
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
	r, err := bucket.ReadRange(ctx, storeName, 0, 1)
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
		var random [16]byte
		_, _ = rand.Read(random[:])
		b = encodeStore(&segment.Format{ID: le.Uint64(random[:]), Seed: le.Uint64(random[8:])})
		if err = s.create(ctx, storeName, b); err == nil || errors.Is(err, fs.ErrExist) {
			b, err = s.readObject(ctx, storeName) // which another one may have made
		}
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
		return nil, fmt.Errorf("%w: it makes an object that exists once more, instead of answering 412 to If-None-Match: *; "+
			"no store in it would be safe from several writers: use a server that keeps to S3's conditional writes", ErrRefused)
	}
	if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return f, s.race(ctx)
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

// Close flushes the store and gives back its memory. If it cannot flush, it says so
// and the store stays open, unless what it has can never count.
func (s *Store) Close() error {
	if s.closed.Load() {
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
		if err := s.flush(ctx, true); err != nil {
			if errors.Is(err, errTooOld) || s.broken != nil {
				s.giveUp()
			}
			return &partd.Error{Op: "close", Path: place(s.bucket, ""), Err: err}
		}
	}
	s.closed.Store(true)
	s.stop()
	return nil
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
}

// usable is what every operation begins with.
func (s *Store) usable(ctx context.Context, writes bool) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case s.closed.Load():
		return partd.ErrClosed
	case writes && s.opts.ReadOnly:
		return errors.New("the store is open for reading alone")
	}
	return nil
}

// MemoryUsed returns the bytes held for data and for what keeps it in order.
func (s *Store) MemoryUsed() int64 {
	n := s.catalog.memory.Load() + s.scans.used.Load()
	if !s.opts.ReadOnly && !s.closed.Load() {
		n += 2*tableMemory(s.tableSize()) + uploads*encodedBound(s.tableSize())
	}
	return n
}
