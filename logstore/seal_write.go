package logstore

import (
	"bytes"
	"maps"
	"math/bits"
	"slices"

	"github.com/go-partd/partd/internal/segment"
)

// writeSegment writes a table that no longer changes to the end of the segment
// file. The manifest does not know of it yet.
func (s *Store) writeSegment(t *table) (*storedSegment, error) {
	f, err := s.fileForSegment()
	if err != nil {
		return nil, err
	}
	g, err := s.appendSegment(f, t)
	if err != nil {
		s.cutBack(f)
	}
	return g, err
}

// fileForSegment returns the file that the next segment goes to.
func (s *Store) fileForSegment() (*dataFile, error) {
	f := s.segmentFile
	// Asked first: the file that a merge reads from, it may shorten meanwhile.
	if f != nil && !s.rotate.Load() && f.end < s.fileSize() {
		return f, nil
	}
	// A bulk that failed may have left an empty one behind it.
	files := s.catalog.files.files()
	at := slices.Index(files, f)
	after := files[at+1:]
	next := slices.IndexFunc(after, func(g *dataFile) bool { return g.Kind == segment.SegmentFile })
	if at >= 0 && next >= 0 && after[next].end == segment.HeaderLen {
		f = after[next]
	} else {
		var err error
		if f, err = s.catalog.add(segment.SegmentFile); err != nil {
			return nil, err
		}
	}
	s.segmentFile = f
	s.rotate.Store(false)
	return f, nil
}

func (s *Store) appendSegment(f *dataFile, t *table) (*storedSegment, error) {
	// A table that is not full gives fewer ranges, of 4 KiB and more.
	segBits := min(t.bits, uint8(max(bits.Len64(uint64(t.size)>>12), 1)-1))
	w := segment.NewWriter(&f.File, f.f, f.end, segBits, s.compressor, s.sealBufs)
	defer func() { s.sealBufs = w.Bufs() }()

	perRange := 1 << (t.bits - segBits)
	hot := map[int][]segment.HotRun{} // by part
	for r := range 1 << segBits {
		w.BeginRange(r)
		for p := r * perRange; p < (r+1)*perRange; p++ {
			keys, err := s.hotKeys(t, p)
			if err == nil && len(keys) == 0 {
				for _, b := range t.blocksOf(t.parts[p]) {
					if err = w.Write(b); err != nil {
						break
					}
				}
			} else if err == nil {
				hot[p] = keys
				err = t.writeEntries(w, p, func(key []byte) bool { return !isHot(keys, key) })
			}
			if err != nil {
				return nil, err
			}
		}
		w.EndRange(r)
	}
	for _, p := range slices.Sorted(maps.Keys(hot)) {
		for _, h := range hot[p] {
			w.BeginRun()
			if err := t.writeEntries(w, p, func(key []byte) bool { return bytes.Equal(key, h.Key) }); err != nil {
				return nil, err
			}
			w.EndRun(h)
		}
	}
	if err := w.Finish(t.ledger.append(nil)); err != nil {
		return nil, err
	}
	f.dirty.Store(true)
	return &storedSegment{Layout: w.Layout, file: f, ledger: t.ledger}, nil
}

// writeEntries writes the entries of a part whose keys are chosen.
func (t *table) writeEntries(w *segment.Writer, p int, choose func(key []byte) bool) error {
	return segment.EachEntry(t.source(t.parts[p]), func(e *segment.Entry) error {
		if !choose(e.Key) {
			return nil
		}
		return w.Write(e.Raw)
	})
}
