package logstore

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/segment"
)

// storedSegment is a complete segment in a data file.
type storedSegment struct {
	segment.Layout
	file   *dataFile
	ledger Ledger
}

// rangesLen returns the stored length of the ranges that overlap [lo, hi].
func (g *storedSegment) rangesLen(lo, hi uint64) int64 {
	return int64(g.Offsets[g.RangeIndex(hi)+1] - g.Offsets[g.RangeIndex(lo)])
}

// openRanges makes r read the ranges that overlap [lo, hi].
func (g *storedSegment) openRanges(r *segment.Reader, lo, hi uint64) segment.Source {
	r.Reset(&g.file.File, g.Start+int64(g.Offsets[g.RangeIndex(lo)]), g.Start+int64(g.Offsets[g.RangeIndex(hi)+1]))
	return r
}

func (g *storedSegment) openHotRun(r *segment.Reader, h *segment.HotRun) segment.Source {
	start := g.Start + int64(h.Off)
	r.Reset(&g.file.File, start, start+int64(h.Len))
	return r
}

// segments is the list of the store's segments, with the earlier versions that readers
// still use. Store.mu guards it.
type segments struct {
	*directory
	catalog       *catalog
	maxFile       int64  // see Options.FileSize
	maxIndex      int64  // memory limit for the offsets of ranges, and again for hot runs
	onOldReleased func() // called when the last reader of an earlier version ends

	list        []*storedSegment // copy-on-write
	version     *version         // version of list
	oldVersions int              // number of earlier versions that are still in use
	closed      bool

	size     atomic.Int64   // approximate size of segments and blob files
	hotFull  atomic.Bool    // hot runs use all of their memory
	discards sync.WaitGroup // running calls that free files of merged segments
}

// fileSize returns the size at which to begin a new data file. Space is freed file by
// file, so each file is a small part of the store.
func (ss *segments) fileSize() int64 {
	return min(ss.maxFile, max(minFile, ss.size.Load()/16))
}

// The index of segments, from their footers, grows with the store. 1/32 of the memory is
// for the offsets of ranges, and 1/32 for hot runs.

// limitIndex returns a list whose offsets need at most maxIndex bytes. It halves the
// number of ranges of the finest segments until they fit, which only makes reads longer.
// If hot runs need too much memory, it stops creating new ones.
func (ss *segments) limitIndex(list []*storedSegment) []*storedSegment {
	limit := ss.maxIndex
	for {
		var ranges, hot int64
		finest := uint8(0)
		for _, g := range list {
			ranges += g.OffsetMemoryUsed()
			hot += g.HotMemoryUsed()
			finest = max(finest, g.Bits)
		}
		ss.hotFull.Store(hot > limit)
		if ranges <= limit || finest == 0 {
			return list
		}
		list = slices.Clone(list) // readers use the old list
		for i, g := range list {
			if g.Bits == finest {
				list[i] = &storedSegment{Layout: g.Coarser(), file: g.file, ledger: g.ledger}
			}
		}
	}
}

// version is a state of the segment list between two merges. A reader holds a reference
// to its version. Store.mu guards the fields.
type version struct {
	refs int // readers, plus one for the store or for the previous version

	// When this version and all earlier ones are unused, the doomed files and the data
	// after the cuts are no longer read.
	doomed []*dataFile
	cuts   []fileCut
	next   *version
}

// fileCut describes a file to truncate, after its last segments were merged into another file.
type fileCut struct {
	file *dataFile
	end  int64
}

// acquire returns the current version, adding a reference. mu must be held.
func (ss *segments) acquire() *version {
	ss.version.refs++
	return ss.version
}

// release removes a reference, and frees files that are no longer read. mu must be held.
func (ss *segments) release(v *version) {
	for v != nil {
		if v.refs--; v.refs > 0 {
			return
		}
		if ss.discard(v.doomed, v.cuts); v != ss.version {
			if ss.oldVersions--; ss.oldVersions == 0 {
				ss.onOldReleased()
			}
		}
		v = v.next // the next version was kept by this one
	}
}

// startVersion begins a version. Its predecessor keeps doomed and cuts until it is
// unused. mu must be held.
func (ss *segments) startVersion(doomed []*dataFile, cuts []fileCut) {
	prev := ss.version
	ss.version = &version{refs: 2}
	ss.oldVersions++
	prev.doomed, prev.cuts, prev.next = doomed, cuts, ss.version
	ss.release(prev)
}

// discard closes and truncates files. Freeing blocks may take a while, so a goroutine
// does it; Close waits for it. mu must be held.
func (ss *segments) discard(doomed []*dataFile, cuts []fileCut) {
	if ss.closed {
		cuts = nil // another process may have opened the store; it truncates the files itself
	}
	cuts = slices.DeleteFunc(slices.Clone(cuts), func(c fileCut) bool {
		return !slices.Contains(ss.catalog.files.files(), c.file) // of a dropped store
	})
	if len(doomed)+len(cuts) == 0 {
		return
	}
	free := func() {
		// A running sync may still use the files.
		ss.syncMu.Lock()
		defer ss.syncMu.Unlock()
		for _, f := range doomed {
			ss.warn(f.f.Close(), "a merged file could not be closed", "path", f.Path)
		}
		for _, c := range cuts {
			ss.tryTruncate(c.file, c.end)
		}
	}
	if ss.closed {
		free()
		return
	}
	ss.discards.Go(free)
}

// Merged segments may have followed other segments in a file. The file is truncated when no
// reader needs them. Within a store, versions track the readers. A reader that outlives its
// closed store, in this or another process, holds a shared lock on each file.

var errStillRead = errors.New("it is still being read")

// shortenFiles truncates files to their ends, after merges, unless more will be written to them.
func (s *Store) shortenFiles() {
	for _, f := range s.catalog.files.files() {
		if f.Kind != segment.SegmentFile || f == s.sealer.file {
			continue
		}
		if size, err := f.size(); err != nil || size > f.end {
			s.tryTruncate(f, f.end)
		}
	}
}

// lockForReaders prevents other processes from changing a closed store's files until its
// last reader ends. mu must be held.
func (s *Store) lockForReaders() {
	if s.catalog.files.refs.Load() == 1 {
		return // no readers
	}
	for _, f := range s.catalog.files.files() {
		if f.Kind != segment.SegmentFile {
			continue
		}
		l := s.fs.NewLock(f.Path)
		if locked, err := l.TryLock(false); err != nil || !locked {
			s.log.Warn("logstore: a file with open readers could not be locked", "path", f.Path, "err", err)
			continue
		}
		s.catalog.files.locks = append(s.catalog.files.locks, l)
	}
}
