package logstore

import (
	"context"

	"github.com/go-partd/partd/internal/offheap"
)

// turnOver brings the tables one step on: it freezes the active one, or waits
// until the frozen one is written out. mu is held, and let go of meanwhile.
func (s *Store) turnOver(ctx context.Context) error {
	if s.frozen == nil {
		t, err := s.waitFree(ctx)
		if err != nil {
			return err
		}
		if s.frozen != nil || s.seq == s.active.firstSeq || s.writable() != nil {
			s.putTable(t) // others were faster
			return nil
		}
		if err := s.freeze(t); err != nil {
			s.putTable(t)
			return err
		}
		return nil
	}
	if !s.sealing {
		s.startSeal() // it failed before
	}
	t, done := s.frozen, s.sealed
	s.mu.Unlock()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.mu.Lock()
	if err == nil && s.frozen == t && !s.sealing {
		err = s.sealErr
	}
	return err
}

// waitFree takes the table that is not in use, for which readers may have to
// finish first. mu is held, and let go of meanwhile.
func (s *Store) waitFree(ctx context.Context) (*table, error) {
	if t, err := s.tryFree(); t != nil || err != nil {
		return t, err
	}
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case t := <-s.free:
		return t, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// maxSpares is how many tables slow readers can hold: see flushedView.
const maxSpares = 2

// tryFree takes a table that is not in use, or makes one where slow readers
// hold those that there are, or returns nil. mu is held.
func (s *Store) tryFree() (*table, error) {
	select {
	case t := <-s.free:
		return t, nil
	default:
	}
	if s.slowViews == 0 || s.spares == maxSpares {
		return nil, nil
	}
	like := s.active
	arena, err := offheap.Allocate(len(like.arena))
	if err != nil {
		return nil, err
	}
	s.spares++
	return &table{
		arena: arena, chunkSize: like.chunkSize, bits: like.bits,
		parts: make([]part, len(like.parts)), need: make([]int32, len(like.need)),
	}, nil
}

// putTable takes back an empty table that is not in use. mu is held.
func (s *Store) putTable(t *table) {
	others := len(s.free)
	for _, used := range []*table{s.active, s.frozen} {
		if used != nil && used != t {
			others++
		}
	}
	if s.spares > 0 && others >= 2 {
		s.spares--
		offheap.Release(t.arena)
		return
	}
	s.free <- t
}

// freeze makes t the active table, and has the one before written out. mu is held.
func (s *Store) freeze(t *table) error {
	if s.durable.Load() {
		// The next write-ahead file must not survive where this one does not.
		if err := s.syncLogLocked(); err != nil {
			return err
		}
	}
	w, err := s.nextWAL()
	if err != nil {
		return err
	}
	s.wal.markEnd(s.active.wal, w, s.seq)
	s.frozen = s.active
	s.frozenAt = frozenState{w.epoch, s.seq, s.sessions.clone()}
	s.activate(t, w)
	s.startSeal()
	return nil
}

// activate makes an empty table the active one.
func (s *Store) activate(t *table, w *walFile) {
	t.reset()
	t.refs.Store(1)
	t.wal, t.firstSeq = w, s.seq
	s.active = t
}

// nextWAL begins the write-ahead file that follows the active one.
func (s *Store) nextWAL() (*walFile, error) {
	slot := 0
	for f := s.wal.files[slot]; f != nil && (f == s.active.wal.f || s.frozen != nil && f == s.frozen.wal.f); f = s.wal.files[slot] {
		slot++
	}
	return s.wal.begin(slot, walHeader{epoch: s.active.wal.epoch + 1, firstSeq: s.seq})
}

func (s *Store) startSeal() {
	s.sealing, s.sealErr, s.sealed = true, nil, make(chan struct{})
	go s.seal(s.frozen, s.frozenAt, s.sealed)
}

// seal writes a frozen table out and makes it a segment of the store.
func (s *Store) seal(t *table, at frozenState, done chan struct{}) {
	var segments []*storedSegment
	var err error
	if t.size > 0 {
		var g *storedSegment
		if g, err = s.writeSegment(t); err == nil {
			segments = append(segments, g)
		}
	}
	if err == nil {
		err = s.commitSegments(segments, t.ledger, func(m *manifest) {
			m.liveEpoch, m.nextSeq, m.sessions = at.liveEpoch, at.nextSeq, at.sessions
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealing, s.sealErr = false, err
	if err == nil {
		for _, g := range segments {
			g.file.end = g.End
		}
		s.addSegments(segments)
		s.frozen = nil
		s.unref(t)
	} else {
		for _, g := range segments {
			s.cutBack(g.file)
		}
		s.log.Warn("logstore: a table could not be written out; its content is safe in its write-ahead file",
			"dir", s.dir, "err", err)
	}
	close(done)
}

// unref lets go of a table. mu is held.
func (s *Store) unref(t *table) {
	if t.refs.Add(-1) > 0 {
		return
	}
	if s.closed || t.loose {
		offheap.Release(t.arena)
		return
	}
	t.reset()
	s.putTable(t)
}

// flushLocked has all records so far written out. mu is held, and let go of
// meanwhile.
func (s *Store) flushLocked(ctx context.Context) error {
	target := s.seq
	for {
		if s.active == nil { // a Drop found the disk full
			return s.writable()
		}
		if s.frozen == nil && s.active.firstSeq >= target {
			return nil
		}
		if err := s.writable(); err != nil {
			return err
		}
		if err := s.turnOver(ctx); err != nil {
			return err
		}
	}
}
