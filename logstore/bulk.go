package logstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
)

// bulkWriter turns entries straight into segments, which one replacement of
// the manifest makes part of the store. It uses the table that is not active.
type bulkWriter struct {
	s        *Store
	t        *table
	segments []*storedSegment
	blobs    []segment.BlobRef
	ledger   Ledger
}

// add enters a batch, and writes a segment first where it does not fit.
func (w *bulkWriter) add(b *batch) error {
	w.blobs, b.blobs = append(w.blobs, b.blobs...), b.blobs[:0]
	if !w.t.fits(b) {
		if err := w.flush(); err != nil {
			return err
		}
		if !w.t.fits(b) {
			return fmt.Errorf("%w: an entry or record of %d bytes does not fit into %d bytes of memory: give the store more",
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
	g, err := w.s.sealer.write(w.t)
	if err != nil {
		return err
	}
	g.file.end = g.End
	w.segments = append(w.segments, g)
	w.ledger.Add(g.ledger)
	w.t.reset()
	return nil
}

// undo gives back the room of what did not become part of the store.
func (w *bulkWriter) undo() {
	for i := len(w.segments) - 1; i >= 0; i-- {
		g := w.segments[i]
		g.file.end = g.Start
		if i == 0 || g.Start == segment.HeaderLen {
			w.s.cutBack(g.file)
		}
		w.s.sealer.file = g.file
	}
	w.s.blobs.giveBack(w.blobs)
	w.segments, w.blobs = nil, nil
}

// finish makes the segments part of the store. edit changes the manifest further.
func (w *bulkWriter) finish(edit func(m *manifest)) error {
	err := w.flush()
	if err == nil {
		err = w.s.commitSegments(w.segments, w.ledger, edit)
	}
	if err != nil {
		w.undo()
	}
	return err
}

// commitSegments replaces the manifest by one that has new segments.
func (s *Store) commitSegments(segments []*storedSegment, ledger Ledger, edit func(m *manifest)) error {
	if s.durable.Load() {
		if err := s.syncAlone(func() error { return s.syncData(s.catalog.files) }); err != nil {
			return err
		}
	}
	return s.catalog.edit(func(m *manifest) {
		m.files = slices.Clone(m.files)
		for _, g := range segments {
			for i := range m.files {
				if m.files[i].number == g.file.Number {
					m.files[i].end = g.End
				}
			}
		}
		m.ledger.Add(ledger)
		edit(m)
	})
}

// bulk applies an operation that is too large for a record.
func (s *Store) bulk(ctx context.Context, tag partd.Tag, op operation) (applied bool, err error) {
	b, err := s.takeBatch(ctx)
	if err != nil {
		return false, err
	}
	defer s.putBatch(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.stop(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		t.reset()
		s.tables.put(t)
	}()
	if tag != (partd.Tag{}) {
		if isNew, err := s.sessions.check(tag); err != nil || !isNew {
			return false, err
		}
	}
	if err := op.last(ctx, s, nil); err != nil {
		return false, err
	}
	w := &bulkWriter{s: s, t: t}
	err = op.each(func(kind segment.Kind, key string, value []byte) error {
		more := len(key) + min(len(value), s.blobBytes) + 64
		if len(b.at) > 0 && len(b.buf)+perEntry*len(b.at)+more > s.maxBatch {
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
		return true, nil // there was nothing to do
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
		return false, outcome(err)
	}
	s.sessions = sessions
	s.addSegments(w.segments)
	return true, nil
}

// stop has all records written out, so that what comes next may go straight
// to segments, and takes the free table. mu is held, and let go of meanwhile.
func (s *Store) stop(ctx context.Context) (*table, error) {
	for {
		if err := s.writable(); err != nil {
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
		t, err := s.tables.take(ctx)
		if err != nil {
			return nil, err
		}
		s.tables.put(t) // something may have changed meanwhile
	}
}

// addSegments makes segments visible. mu is held.
func (s *Store) addSegments(more []*storedSegment) {
	s.edits++
	old := s.segments.list
	s.segments.list = s.segments.withinMemory(append(old[:len(old):len(old)], more...))
	s.merging.wasteLimit.Store(0)
	s.reclaim.weights = nil
	s.segments.size.Add(sizeOf(more))
	s.considerMerge()
}
