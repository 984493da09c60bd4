package logstore

import (
	"context"
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/segment"
)

// bulkWriter writes entries directly to segments, which finish adds to the manifest in one step.
type bulkWriter struct {
	s        *Store
	t        *table // table that collects the entries of the next segment; the store does not use it
	segments []*storedSegment
	blobs    []segment.BlobRef
	ledger   Ledger
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
			return fmt.Errorf("%w: an entry or record of %d bytes does not fit into a table of %d bytes: increase the option Memory",
				partd.ErrTooLarge, len(b.entries()), len(w.t.arena))
		}
	}
	w.t.insert(b)
	w.s.reclaim.noteBatch(b, w.t, w.s.segments.list)
	return nil
}

func (w *bulkWriter) flush() error {
	if w.t.size == 0 {
		return nil
	}
	seg, err := w.s.sealer.write(w.t)
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
			w.s.truncateTail(seg.file)
		}
		w.s.sealer.file = seg.file
	}
	w.s.blobs.release(w.blobs)
	w.segments, w.blobs = nil, nil
}

// finish adds the segments to the store. edit makes additional changes to the manifest.
func (w *bulkWriter) finish(edit func(m *manifest)) error {
	err := w.flush()
	if err == nil {
		err = w.s.catalog.commitSegments(w.segments, w.ledger, edit)
	}
	if err != nil {
		w.undo()
	}
	return err
}

// applyBulk applies an operation that is too large for one record.
func (s *Store) applyBulk(ctx context.Context, tag partd.Tag, op operation) (applied bool, err error) {
	b, err := s.takeBatch(ctx)
	if err != nil {
		return false, err
	}
	defer s.putBatch(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.drainTables(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		t.reset()
		s.tables.put(t)
	}()
	if isNew, err := s.sessions.check(tag); err != nil || !isNew {
		return false, err
	}
	if _, err := op.prepare(ctx, s); err != nil {
		return false, err
	}
	w := &bulkWriter{s: s, t: t}
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
	sessions := s.sessions.clone()
	sessions.apply(recordHeader{kind: recordBatch, tag: tag, tagged: tag != (partd.Tag{})}, s.opts.MaxSessions)
	if err := w.finish(func(m *manifest) { m.sessions = sessions.clone() }); err != nil {
		return false, commitError(err)
	}
	s.sessions = sessions
	s.addSegments(w.segments)
	return true, nil
}

// drainTables writes all records to segments, so that the next segment of the caller is newer
// than every record. It returns an unused table. mu must be held; it is released while waiting.
func (s *Store) drainTables(ctx context.Context) (*table, error) {
	for {
		if err := s.checkWritable(); err != nil {
			return nil, err
		}
		if s.tables.frozen != nil || s.seq != s.tables.active.firstSeq {
			if err := s.rotateTable(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if t, err := s.tables.tryTake(); t != nil || err != nil {
			return t, err
		}
		t, err := s.tables.takeTable(ctx)
		if err != nil {
			return nil, err
		}
		s.tables.put(t) // takeTable released mu, so there may be new records: check again
	}
}

// addSegments makes segments visible to readers. mu must be held.
func (s *Store) addSegments(added []*storedSegment) {
	s.editCount++
	old := s.segments.list
	s.segments.list = s.segments.limitIndex(append(old[:len(old):len(old)], added...))
	s.merging.wasteLimit.Store(0)
	s.reclaim.weights = nil
	s.segments.size.Add(sizeOf(added))
	s.considerMerge()
}
