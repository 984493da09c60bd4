package logstore

import (
	"context"
)

// rotateTable brings the tables one step on: it freezes the active one, or waits
// until the frozen one is written out. mu is held, and let go of meanwhile.
func (s *Store) rotateTable(ctx context.Context) error {
	if s.tables.frozen == nil {
		t, err := s.tables.take(ctx)
		if err != nil {
			return err
		}
		if s.tables.frozen != nil || s.seq == s.tables.active.firstSeq || s.writable() != nil {
			s.tables.put(t) // others were faster
			return nil
		}
		if err := s.freeze(t); err != nil {
			s.tables.put(t)
			return err
		}
		return nil
	}
	if !s.sealing {
		s.startSeal() // it failed before
	}
	t, done := s.tables.frozen, s.sealed
	s.mu.Unlock()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.mu.Lock()
	if err == nil && s.tables.frozen == t && !s.sealing {
		err = s.sealErr
	}
	return err
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
	s.wal.markEnd(s.tables.active.wal, w, s.seq)
	s.tables.frozen = s.tables.active
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
	s.tables.active = t
}

// nextWAL begins the write-ahead file that follows the active one.
func (s *Store) nextWAL() (*walFile, error) {
	slot := 0
	for f := s.wal.files[slot]; f != nil && (f == s.tables.active.wal.f || s.tables.frozen != nil && f == s.tables.frozen.wal.f); f = s.wal.files[slot] {
		slot++
	}
	return s.wal.begin(slot, walHeader{epoch: s.tables.active.wal.epoch + 1, firstSeq: s.seq})
}

func (s *Store) startSeal() {
	s.sealing, s.sealErr, s.sealed = true, nil, make(chan struct{})
	go s.seal(s.tables.frozen, s.frozenAt, s.sealed)
}

// seal writes a frozen table out and makes it a segment of the store.
func (s *Store) seal(t *table, at frozenState, done chan struct{}) {
	var segments []*storedSegment
	var err error
	if t.size > 0 {
		var g *storedSegment
		if g, err = s.sealer.write(t); err == nil {
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
		s.tables.frozen = nil
		s.tables.unref(t)
	} else {
		for _, g := range segments {
			s.cutBack(g.file)
		}
		s.log.Warn("logstore: a table could not be written out; its content is safe in its write-ahead file",
			"dir", s.dir, "err", err)
	}
	close(done)
}

// flushLocked has all records so far written out. mu is held, and let go of
// meanwhile.
func (s *Store) flushLocked(ctx context.Context) error {
	target := s.seq
	for {
		if s.tables.active == nil { // a Drop found the disk full
			return s.writable()
		}
		if s.tables.frozen == nil && s.tables.active.firstSeq >= target {
			return nil
		}
		if err := s.writable(); err != nil {
			return err
		}
		if err := s.rotateTable(ctx); err != nil {
			return err
		}
	}
}
