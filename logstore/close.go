package logstore

import (
	"context"
	"errors"
)

// Close writes everything out and closes the store. Readers at work may
// finish. If Close cannot write something out, it returns an error; the data
// is still in the write-ahead files, from which the next Open recovers it. A
// second Close does nothing.
func (s *Store) Close() error {
	if s.dir == "" {
		return nil
	}
	s.finishMerges()
	s.life.Lock()
	defer s.life.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	var err error
	if !s.opts.ReadOnly && s.full() == nil && s.temp == nil {
		err = s.finish()
	}
	s.closed = true
	s.mu.Unlock()
	err = errors.Join(err, s.abandon())
	if s.temp != nil {
		err = errors.Join(err, s.temp.Close())
	}
	return s.errorf("close", err)
}

// finish brings the store into the state of one closed in order. mu is held.
func (s *Store) finish() error {
	if err := s.poisoned(); err != nil {
		return err
	}
	if err := s.flushLocked(context.Background()); err != nil {
		return err
	}
	if err := s.catalog.edit(func(m *manifest) { m.clean = true }); err != nil {
		return err
	}
	return s.wal.remove()
}

// finishMerges ends what is done in the background. What is still in tables is
// written out first, since it may be the segment that makes a merge due.
func (s *Store) finishMerges() {
	if !s.opts.ReadOnly && s.temp == nil {
		// If that fails, Close tries again, and says so.
		_ = s.Flush(context.Background())
	}
	s.stopMerging()
}

// abandon closes all files and gives back all memory.
func (s *Store) abandon() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.segments.closed = true, true
	s.waitSealed() // it uses what is given back here
	s.segments.release(s.segments.version)
	s.mu.Unlock()
	s.segments.discards.Wait()
	s.mu.Lock()
	var errs []error
	errs = append(errs, s.wal.close())
	if s.catalog.files != nil {
		s.lockForReaders()
		errs = append(errs, s.catalog.files.release())
	}
	s.tables.close()
	return errors.Join(append(errs, s.unlock())...)
}
