package logstore

import (
	"context"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/segment"
)

// applyBulk applies an operation that is too large for one record.
func (s *Store) applyBulk(ctx context.Context, tag partd.Tag, op storeOp) (applied bool, err error) {
	b, err := s.takeBatch(ctx)
	if err != nil {
		return false, err
	}
	defer s.putBatch(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.journal.drainTables(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		t.reset()
		s.tables.put(t)
	}()
	if isNew, err := s.journal.sessions.check(tag); err != nil || !isNew {
		return false, err
	}
	if _, err := op.prepare(ctx, &s.journal, &s.views); err != nil {
		return false, err
	}
	w := &bulkWriter{j: &s.journal, t: t}
	err = op.each(func(kind segment.Kind, key string, value []byte) error {
		need := len(key) + min(len(value), s.blobBytes) + 64
		if len(b.offsets) > 0 && len(b.buf)+entryOverhead*len(b.offsets)+need > s.maxBatch {
			if err := w.add(b); err != nil {
				return err
			}
			b.reset()
			if err := canceled.Err(ctx); err != nil {
				return err
			}
		}
		return s.encodeEntry(b, kind, key, value, s.format.Hash(key))
	})
	if err == nil {
		err = w.add(b)
	}
	if err == nil && tag == (partd.Tag{}) && t.size == 0 && len(w.segments) == 0 {
		return true, nil // there is nothing to write
	}
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		w.blobs = append(w.blobs, b.blobs...)
		w.undo()
		return false, err
	}
	sessions := s.journal.sessions.clone()
	sessions.apply(recordHeader{kind: recordBatch, tag: tag, tagged: tag != (partd.Tag{})}, s.opts.MaxSessions)
	if err := w.finish(func(m *manifest) { m.sessions = sessions.clone() }); err != nil {
		return false, commitError(err)
	}
	s.journal.sessions = sessions
	s.journal.addSegments(w.segments)
	return true, nil
}
