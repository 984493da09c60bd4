package logstore

import (
	"context"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/segment"
)

// applyBulk applies an operation that is too large for one record by writing segments directly.
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

// bulkWriter writes entries directly to segments. Its method finish adds all of them to the manifest in one step.
type bulkWriter struct {
	j        *journal
	t        *memtable // collects the entries of the next segment; no other code uses this table
	segments []*storedSegment
	blobs    []segment.BlobRef
	ledger   segment.Ledger
}

// add inserts a batch into the table. If the table is too full, add first writes the table as
// a segment.
func (w *bulkWriter) add(b *batch) error {
	w.blobs, b.blobs = append(w.blobs, b.blobs...), b.blobs[:0]
	if !w.t.fits(b) {
		if err := w.flush(); err != nil {
			return err
		}
		if !w.t.fits(b) {
			return fmt.Errorf("%w: an entry or record of %d bytes does not fit into a table of %d bytes: increase the Memory option",
				partd.ErrTooLarge, len(b.entries()), len(w.t.arena))
		}
	}
	w.t.insert(b)
	w.j.reclaim.noteBatch(b, w.t, w.j.segments.list)
	return nil
}

func (w *bulkWriter) flush() error {
	if w.t.size == 0 {
		return nil
	}
	seg, err := w.j.sealer.write(w.t)
	if err != nil {
		return err
	}
	seg.file.end = seg.End
	w.segments = append(w.segments, seg)
	w.ledger.Add(seg.ledger)
	w.t.reset()
	return nil
}

// undo frees the disk space of the segments and large values after a failure.
func (w *bulkWriter) undo() {
	for i := len(w.segments) - 1; i >= 0; i-- {
		seg := w.segments[i]
		seg.file.end = seg.Start
		if i == 0 || seg.Start == segment.HeaderLen {
			w.j.truncateTail(seg.file)
		}
		w.j.sealer.file = seg.file
	}
	w.j.blobs.release(w.blobs)
	w.segments, w.blobs = nil, nil
}

// finish adds the segments to the store. edit makes additional changes to the manifest.
func (w *bulkWriter) finish(edit func(m *manifest)) error {
	err := w.flush()
	if err == nil {
		err = w.j.catalog.commitSegments(w.segments, w.ledger, edit)
	}
	if err != nil {
		w.undo()
	}
	return err
}
