package logstore

import (
	"cmp"
	"errors"

	"github.com/go-partd/partd/internal/engine/segment"
)

// Opening a store for writing needs disk space: for a write-ahead file, and for segments with the
// records of old write-ahead files. If the disk is too full, the store opens only for reading and
// for Drop, which frees space. A spare file reserves space for the manifest that Drop writes.

// resumeWrites makes the dropped store accept changes again. t becomes the active table; if t is
// nil, resumeWrites creates one.
func (s *Store) resumeWrites(t *memtable) error {
	if t == nil {
		if err := s.makeTables(); err != nil {
			return err
		}
		var err error
		if t, err = s.tables.tryTake(); t == nil {
			return cmp.Or(err, errors.New("readers use all tables"))
		}
		defer func() {
			if t != s.tables.active {
				s.tables.put(t)
			}
		}()
	}
	t.reset()
	wal, err := s.journal.recoverInto(t, nil, s.catalog.manifest.liveEpoch+1)
	if err != nil {
		return err
	}
	s.wal.group.MarkSynced(s.journal.seq - 1)
	s.journal.activate(t, wal)
	s.reclaim.start(&s.segments, s.catalog.files, s.tables.bits)
	s.fullErr.Store(nil)
	return nil
}

// makeTables allocates the tables, batches and compressor, which only changes need.
func (s *Store) makeTables() error {
	var err error
	if s.sealer.comp, err = segment.NewCompressor(segment.Codec(s.opts.Compression)); err != nil {
		return err
	}
	if err := s.tables.allocate(); err != nil {
		return err
	}
	if s.batches == nil {
		s.tables.bits, _ = tableShape(s.tables.bytes)
		s.batches = make(chan *batch, 4)
		for range cap(s.batches) {
			s.batches <- &batch{}
		}
	}
	return nil
}
