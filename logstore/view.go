package logstore

import (
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/engine/segment"
)

// view is the content of the store at one moment. The caller must close it.
type view struct {
	s          *Store
	files      *fileSet
	version    *version
	segments   []*storedSegment
	tables     []tableView // newer than all segments, oldest first
	slowReader bool        // the view is counted in tables.slowReaders
}

// tableView is a table at the time of the view.
type tableView struct {
	t      *table
	base   int    // number of the first part in parts
	parts  []part // copies of consecutive parts of the table
	ledger Ledger
}

// viewLocked returns a view of the keys with hashes in [lo, hi]. mu must be held. The
// caller must close the view.
func (s *Store) viewLocked(lo, hi uint64) (*view, error) {
	if s.dir == "" {
		return nil, storeerror.ErrNotOpened
	}
	if s.closed {
		return nil, partd.ErrClosed
	}
	if s.walErr != nil {
		return nil, s.walErr
	}
	v := s.segmentsView(s.segments.list)
	for _, t := range s.tables.inUse() {
		if t.size == 0 {
			continue
		}
		t.refs.Add(1)
		firstPart, lastPart := segment.RangeIndex(lo, t.bits), segment.RangeIndex(hi, t.bits)
		v.tables = append(v.tables, tableView{t, firstPart, slices.Clone(t.parts[firstPart : lastPart+1]), t.ledger})
	}
	return v, nil
}

// releaseTables records that the view no longer uses its tables. mu must be held.
func (v *view) releaseTables() {
	if v.slowReader {
		v.slowReader = false
		v.s.tables.slowReaders--
	}
}

// close releases the view's tables and files. mu must not be held.
func (v *view) close() error {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	return v.closeLocked()
}

func (v *view) closeLocked() error {
	for _, t := range v.tables {
		v.s.tables.release(t.t)
	}
	v.tables = nil
	v.releaseTables()
	v.s.segments.release(v.version)
	return v.files.release()
}

// sources returns the number of the view's sources: the segments, followed by the tables, in the
// order in which their entries were written. Functions identify a source by its index.
func (v *view) sources() int { return len(v.segments) + len(v.tables) }

func (v *view) ledger() Ledger {
	l := ledgerOf(v.segments)
	for i := range v.tables {
		l.Add(v.tables[i].ledger)
	}
	return l
}

// keySource returns the entries of the key's hot run in a source, and the run's description. If
// there is no such run, hot is nil, and src has the entries of the key's whole range.
func (v *view) keySource(source int, hash uint64, key []byte, r *segment.Reader) (src segment.Source, hot *segment.HotRun) {
	if h := v.hotFor(source, hash, key); h != nil {
		return v.segments[source].openHotRun(r, h), h
	}
	return v.rangeSource(source, hash, r), nil
}

// hotFor returns the key's hot run in a source, or nil.
func (v *view) hotFor(source int, hash uint64, key []byte) *segment.HotRun {
	if source >= len(v.segments) {
		return nil
	}
	return segment.FindHot(v.segments[source].Hot, hash, key)
}

func (t *tableView) source(hash uint64) segment.Source {
	return t.t.source(t.parts[segment.RangeIndex(hash, t.t.bits)-t.base])
}

// runError adds the source's file to err if err means that an entry could not be decoded.
func (v *view) runError(source int, err error) error {
	if err != segment.ErrBadEntry && err != segment.ErrShortEntry {
		return err
	}
	if source >= len(v.segments) {
		return err
	}
	seg := v.segments[source]
	return seg.file.Corrupt(seg.Start, err)
}

func (v *view) appendBlob(dst []byte, encoded []byte) ([]byte, error) {
	var r segment.BlobReader
	if err := v.files.openBlob(encoded, &r); err != nil {
		return dst, err
	}
	if need := len(dst) + int(r.Ref.Length); need > cap(dst) {
		dst = append(make([]byte, 0, need), dst...)
	}
	err := segment.EachBlock(&r, func(b []byte) error {
		dst = append(dst, b...)
		return nil
	})
	return dst, err
}
