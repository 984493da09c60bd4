package objstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/storekit"
)

// Flush makes all earlier changes durable and visible to all processes; see [partd.Flusher].
func (s *Store) Flush(ctx context.Context) error { return s.errorf("flush", s.flushThen(ctx, nil)) }

// Sync is the same as Flush; see [partd.Syncer].
func (s *Store) Sync(ctx context.Context) error { return s.errorf("sync", s.flushThen(ctx, nil)) }

func (s *Store) errorf(op string, err error) error {
	if err == nil {
		return nil
	}
	return &partd.Error{Op: op, Path: objectPath(s.bucket, ""), Err: err}
}

// flushThen flushes the store and then, still holding commitMu, calls change unless it is nil. A
// read-only store has nothing to flush: flushThen returns an error only if change is not nil.
func (s *Store) flushThen(ctx context.Context, change func() error) error {
	if err := s.checkUsable(ctx, change != nil); err != nil || s.opts.ReadOnly {
		return err
	}
	if err := s.commitMu.lock(ctx); err != nil {
		return err
	}
	defer s.commitMu.unlock()
	if err := s.flush(ctx, false); err != nil || change == nil {
		return err
	}
	return change()
}

// flush uploads and commits all buffered entries. If final is true, flush repeats this until nothing
// is pending, and then closes the store and frees its tables. commitMu must be held.
func (s *Store) flush(ctx context.Context, final bool) error {
	if s.closed.Load() {
		return partd.ErrClosed
	}
	if err := s.finishCommit(ctx); err != nil {
		return err
	}
	for {
		if err := s.mu.lock(ctx); err != nil {
			return err
		}
		if final && s.active.used == 0 && len(s.pending) == 0 {
			err := s.waitUploads(ctx, 0) // uploads of failed appends may still be running, although their pieces are not pending
			if err == nil {
				s.closed.Store(true)
				s.releaseTables()
			}
			s.mu.unlock()
			return err
		}
		pieces, done, err := s.sealAll(ctx)
		s.mu.unlock()
		if err != nil {
			return err
		}
		if len(pieces) > 0 {
			if err := s.waitPieces(ctx, pieces, done); err != nil {
				return err
			}
			if err := s.commit(ctx, opEntries, pieces); err != nil {
				return err
			}
		}
		if !final {
			return nil
		}
	}
}

// sealAll turns the active table into a pending piece, a segment that is not yet committed. It returns
// all pending pieces, and for each current upload a channel that is closed when the upload ends. mu
// must be held.
func (s *Store) sealAll(ctx context.Context) (pieces []*piece, uploadsDone []chan struct{}, err error) {
	inline := func(p *piece) bool { return p.part.inline }
	switch {
	case s.active.used == 0:
	case int64(s.active.used) <= s.opts.hooks.maxInline && !slices.ContainsFunc(s.pending, inline):
		err = s.sealInline(ctx)
	default:
		err = s.seal(ctx)
	}
	for _, p := range s.uploading {
		uploadsDone = append(uploadsDone, p.uploadDone)
	}
	return slices.Clone(s.pending), uploadsDone, err
}

// waitPieces waits until the pieces that sealAll returned are uploaded. Appends may continue meanwhile.
func (s *Store) waitPieces(ctx context.Context, pieces []*piece, uploadsDone []chan struct{}) error {
	for _, d := range uploadsDone {
		if err := canceled.Wait(ctx, d); err != nil {
			return err
		}
	}
	if err := s.mu.lock(ctx); err != nil {
		return err
	}
	defer s.mu.unlock()
	n := len(s.uploading)
	for n > 0 && !slices.Contains(pieces, s.uploading[n-1]) {
		n-- // this upload began after sealAll
	}
	return s.waitUploads(ctx, len(s.uploading)-n)
}

// commit adds a record with the given operation and pieces to the log. commitMu must be held.
func (s *Store) commit(ctx context.Context, op operation, pieces []*piece) error {
	if s.lastSeq == 0 && s.nextNumber == 0 {
		highest, largest, err := s.listLog(ctx, "")
		if err != nil {
			return err
		}
		if largest > 0 {
			s.nextNumber = highest + 1
		}
	}
	r := record{number: s.nextNumber, op: op, writer: s.writer, seq: s.lastSeq + 1}
	c := &commitment{number: s.nextNumber}
	for _, p := range pieces {
		r.parts = append(r.parts, p.part)
		if !p.part.inline && (c.oldestObject.IsZero() || p.createdAt.Before(c.oldestObject)) {
			c.oldestObject = p.createdAt
		}
	}
	// The pieces of opEntries are the first in s.pending; the piece of a SetOnce is not in s.pending.
	if op == opEntries {
		c.pieceCount = len(pieces)
	}
	c.data = r.encode(s.format)
	s.commitment = c
	return s.finishCommit(ctx)
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
			return fmt.Errorf("%w: the entry of SetOnce has %d bytes, but the limit is %d, a sixteenth of the store's memory",
				partd.ErrTooLarge, size, limit)
		}
		t, err := newTable(max(size, 1<<12))
		if err != nil {
			return err
		}
		defer t.release()
		if err := s.put(ctx, t, segment.KindSet, key, value); err != nil {
			return err
		}
		p, err := s.sealSeparately(ctx, t)
		if err != nil {
			return err
		}
		return s.commit(ctx, opOnce, []*piece{p})
	}))
}

// sealSeparately encodes t, which must not be the active table, as a piece for a separate record. It
// uploads the piece if it is too large to be stored inside the record.
func (s *Store) sealSeparately(ctx context.Context, t *table) (*piece, error) {
	if err := s.mu.lock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.unlock()
	p, err := s.encodeInline(ctx, t)
	if err != nil || int64(t.used) <= s.opts.hooks.maxInline {
		return p, err
	}
	data := p.part.bytes
	p.part.inline = false
	if p.part.bytes, err = footerOf(fileOf(s.format, s.writer, p.part.segmentNumber), data); err != nil {
		return nil, err
	}
	return p, s.upload(ctx, p, data)
}

// Drop removes every key; see [partd.Partd]. It keeps the objects, because other processes may be
// reading them. [Store.Sweep] deletes them when they are a day old.
func (s *Store) Drop(ctx context.Context) error {
	return s.errorf("drop", s.flushThen(ctx, func() error { return s.commit(ctx, opDrop, nil) }))
}
