package objstore

import (
	"context"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/storekit"
)

// Flush makes all earlier changes durable and visible to all processes; see [partd.Flusher].
func (s *Store) Flush(ctx context.Context) error {
	return s.errorf("flush", storeerror.RetriedByClose(s.flushThen(ctx, nil)))
}

// Sync is the same as Flush; see [partd.Syncer].
func (s *Store) Sync(ctx context.Context) error { return s.errorf("sync", s.flushThen(ctx, nil)) }

// flushThen flushes the store and then, still holding committer.mu, calls change unless it is nil. A
// read-only store has nothing to flush: flushThen returns an error only if change is not nil.
func (s *Store) flushThen(ctx context.Context, change func() error) error {
	if err := s.checkUsable(ctx, change != nil); err != nil || s.opts.ReadOnly {
		return err
	}
	if err := s.committer.mu.lock(ctx); err != nil {
		return err
	}
	defer s.committer.mu.unlock()
	if err := s.flush(ctx, false); err != nil || change == nil {
		return err
	}
	return change()
}

// flush uploads and commits all buffered entries. If final is true, flush repeats this until nothing
// is pending; it then closes the store and frees its tables. committer.mu must be held.
func (s *Store) flush(ctx context.Context, final bool) error {
	if s.closed.Load() {
		return partd.ErrClosed
	}
	if err := s.committer.finish(ctx); err != nil {
		return err
	}
	for {
		if err := s.buffer.mu.lock(ctx); err != nil {
			return err
		}
		if final && s.buffer.isEmpty() {
			// Uploads of failed appends may still be running, although their pieces are not pending.
			err := s.buffer.uploads.wait(ctx, 0)
			if err == nil {
				s.closed.Store(true)
				s.buffer.release()
			}
			s.buffer.mu.unlock()
			return err
		}
		pieces, done, err := s.buffer.sealAll(ctx)
		s.buffer.mu.unlock()
		if err != nil {
			return err
		}
		if len(pieces) > 0 {
			if err := s.buffer.waitPieces(ctx, pieces, done); err != nil {
				return err
			}
			if err := s.committer.commit(ctx, opEntries, pieces); err != nil {
				return err
			}
		}
		if !final {
			return nil
		}
	}
}

// SetOnce sets a key if it does not exist yet; see [partd.Setter]. If several processes
// set the key, the first in the log wins.
func (s *Store) SetOnce(ctx context.Context, key string, value []byte) error {
	if _, err := storekit.CheckEntries("set once", []partd.Entry{{Key: key, Value: value}}); err != nil {
		return err
	}
	return s.errorf("set once", s.flushThen(ctx, func() error {
		_, size := cost(len(key), len(value))
		// Several copies of the value are in memory at the same time.
		if limit := s.opts.Memory / 16; size > limit {
			return fmt.Errorf("%w: the SetOnce entry has %d bytes, but the limit is %d, one sixteenth of the store's memory",
				partd.ErrTooLarge, size, limit)
		}
		t, err := newTable(max(size, 1<<12))
		if err != nil {
			return err
		}
		defer t.release()
		if err := s.buffer.put(ctx, t, segment.KindSet, key, value); err != nil {
			return err
		}
		p, err := s.buffer.sealSeparately(ctx, t)
		if err != nil {
			return err
		}
		return s.committer.commit(ctx, opOnce, []*piece{p})
	}))
}

// Drop removes every key; see [partd.Partd]. It keeps the objects, because other processes may be
// reading them. [Store.Sweep] deletes them when they are a day old.
func (s *Store) Drop(ctx context.Context) error {
	return s.errorf("drop", s.flushThen(ctx, func() error { return s.committer.commit(ctx, opDrop, nil) }))
}

func (s *Store) flushAndRefresh(ctx context.Context) (view, error) {
	if err := s.flushThen(ctx, nil); err != nil {
		return view{}, err
	}
	return s.catalog.refresh(ctx)
}
