package logstore

import (
	"context"
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/segment"
)

// rotateTable freezes the active table or, if another table is frozen, waits until that table is
// sealed (written as a segment). Callers must then check the tables again. mu must be held; it is
// released while waiting.
func (s *Store) rotateTable(ctx context.Context) error {
	if s.tables.frozen == nil {
		t, err := s.tables.takeTable(ctx)
		if err != nil {
			return err
		}
		if s.tables.frozen != nil || s.seq == s.tables.active.firstSeq || s.checkWritable() != nil {
			s.tables.put(t) // while takeTable waited, another goroutine rotated the tables or closed the store
			return nil
		}
		if err := s.freeze(t); err != nil {
			s.tables.put(t)
			return err
		}
		return nil
	}
	if !s.sealing {
		s.startSeal() // the last seal failed
	}
	t, sealDone := s.tables.frozen, s.sealDone
	s.mu.Unlock()
	err := canceled.Wait(ctx, sealDone)
	s.mu.Lock()
	if err == nil && s.tables.frozen == t && !s.sealing {
		err = s.sealErr
	}
	return err
}

// freeze makes t the active table, and starts to seal the previous active table. mu must be held.
func (s *Store) freeze(t *table) error {
	if s.durable.Load() {
		// Sync the current write-ahead file before the next one exists, so that a power loss cannot
		// lose records of this file and keep records of the next file.
		if err := s.wal.sync(s.tables.active.wal, s.seq-1, s.catalog.files); err != nil {
			return err
		}
	}
	slot := 0
	if s.wal.files[slot] == s.tables.active.wal.f {
		slot = 1
	}
	w, err := s.wal.begin(slot, walHeader{epoch: s.tables.active.wal.epoch + 1, firstSeq: s.seq})
	if err != nil {
		return err
	}
	s.wal.markEnd(s.tables.active.wal, w, s.seq)
	s.tables.frozen = s.tables.active
	seq, sessions := s.seq, s.sessions.clone()
	s.setFrozenState = func(m *manifest) { m.liveEpoch, m.nextSeq, m.sessions = w.epoch, seq, sessions }
	s.activate(t, w)
	s.startSeal()
	return nil
}

func (s *Store) activate(t *table, w *walFile) {
	t.reset()
	t.refs.Store(1)
	t.wal, t.firstSeq = w, s.seq
	s.tables.active = t
}

func (s *Store) startSeal() {
	s.sealing, s.sealErr, s.sealDone = true, nil, make(chan struct{})
	go s.seal(s.tables.frozen, s.setFrozenState, s.sealDone)
}

// seal writes a frozen table as a segment and adds the segment to the store. edit makes additional
// changes to the manifest. seal closes done at the end.
func (s *Store) seal(t *table, edit func(m *manifest), done chan struct{}) {
	var segments []*storedSegment
	var err error
	if t.size > 0 {
		var seg *storedSegment
		if seg, err = s.sealer.write(t); err == nil {
			segments = append(segments, seg)
		}
	}
	if err == nil {
		err = s.catalog.commitSegments(segments, t.ledger, edit)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealing, s.sealErr = false, err
	if err == nil {
		s.counters.seals.Add(1)
		for _, seg := range segments {
			seg.file.end = seg.End
		}
		s.addSegments(segments)
		s.tables.frozen = nil
		s.tables.release(t)
	} else {
		s.counters.sealFailures.Add(1)
		for _, seg := range segments {
			s.truncateTail(seg.file)
		}
		s.log.Warn("logstore: a table could not be written as a segment; its data is safe in the write-ahead file",
			"dir", s.dir, "err", err)
	}
	close(done)
}

// flushLocked writes all records of the tables to segments. mu must be held; it is released
// while waiting.
func (s *Store) flushLocked(ctx context.Context) error {
	target := s.seq
	for {
		if s.tables.active == nil { // the disk was full at Open, or a Drop could not begin a write-ahead file
			return s.checkWritable()
		}
		if s.tables.frozen == nil && s.tables.active.firstSeq >= target {
			return nil
		}
		if err := s.checkWritable(); err != nil {
			return err
		}
		if err := s.rotateTable(ctx); err != nil {
			return err
		}
	}
}

// sealer writes tables as segments. Only one goroutine may use it at a time: the goroutine that
// runs seal or, while seal does not run, a Drop, a bulk operation or recovery.
type sealer struct {
	catalog  *catalog
	segments *segments
	comp     *segment.Compressor
	bufs     [2][]byte // buffers to reuse for the next segment

	spans     []byte // memory for spans
	freeSpans []byte // the unused part of spans

	file   *dataFile   // file for the next segment
	rotate atomic.Bool // use a new file, because a merge of segments in file is running
	probe  cacheProbe
}

// write appends a frozen table to a segment file. The caller must add the segment to the manifest.
func (sl *sealer) write(t *table) (*storedSegment, error) {
	f, err := sl.fileFor()
	if err != nil {
		return nil, err
	}
	seg, err := sl.append(f, t)
	if err != nil {
		sl.catalog.truncateTail(f)
	}
	return seg, err
}

func (sl *sealer) fileFor() (*dataFile, error) {
	f := sl.file
	// If rotate is set, a merge of f's segments may be changing f.end, so check rotate first.
	if f != nil && !sl.rotate.Load() && f.end < sl.segments.fileSize() {
		return f, nil
	}
	// A failed bulk operation may have left an empty file after f.
	files := sl.catalog.files.files()
	i := slices.Index(files, f)
	laterFiles := files[i+1:]
	nextIndex := slices.IndexFunc(laterFiles, func(g *dataFile) bool { return g.Kind == segment.SegmentFile })
	if i >= 0 && nextIndex >= 0 && laterFiles[nextIndex].end == segment.HeaderLen {
		f = laterFiles[nextIndex]
	} else {
		var err error
		if f, err = sl.catalog.add(segment.SegmentFile); err != nil {
			return nil, err
		}
	}
	sl.file = f
	sl.rotate.Store(false)
	return f, nil
}

func (sl *sealer) append(f *dataFile, t *table) (*storedSegment, error) {
	// Write a partly filled table with fewer ranges, of at least 4 KiB each.
	segBits := min(t.bits, uint8(max(bits.Len64(uint64(t.size)>>12), 1)-1))
	w := segment.NewWriter(&f.File, sl.probe.output(f), f.end, segBits, sl.comp, sl.bufs)
	defer func() { sl.bufs = w.Buffers() }()

	perRange := 1 << (t.bits - segBits)
	sl.freeSpans = sl.spans
	var hot []*hotPart
	for r := range 1 << segBits {
		w.BeginRange(r)
		for p := r * perRange; p < (r+1)*perRange; p++ {
			h, err := sl.hotKeys(t, p)
			if err == nil && h == nil {
				err = segment.EachBlock(t.source(t.parts[p]), w.Write)
			} else if err == nil {
				hot = append(hot, h)
				err = h.write(w, t, -1)
			}
			if err != nil {
				return nil, err
			}
		}
		w.EndRange(r)
	}
	for _, h := range hot {
		for i, run := range h.runs {
			w.BeginRun()
			if err := h.write(w, t, i); err != nil {
				return nil, err
			}
			w.EndRun(run)
		}
	}
	if err := w.Finish(t.ledger.Append(nil)); err != nil {
		return nil, err
	}
	f.dirty.Store(true)
	seg := &storedSegment{Layout: w.Layout, file: f, ledger: t.ledger}
	sl.probe.add(f, seg.Start, seg.End, len(t.arena))
	return seg, nil
}
