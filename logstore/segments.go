package logstore

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/segment"
)

// storedSegment is a segment in a data file, whole from one opening, seal or
// merge on.
type storedSegment struct {
	segment.Layout
	file   *dataFile
	ledger Ledger
}

// stored is how many bytes the ranges take that hold an interval of hashes.
func (g *storedSegment) stored(lo, hi uint64) int64 {
	return int64(g.Off[g.RangeOf(hi)+1] - g.Off[g.RangeOf(lo)])
}

// ranges makes r read the ranges that hold an interval of hashes.
func (g *storedSegment) ranges(r *segment.Reader, lo, hi uint64) segment.Source {
	r.Reset(&g.file.File, g.Start+int64(g.Off[g.RangeOf(lo)]), g.Start+int64(g.Off[g.RangeOf(hi)+1]))
	return r
}

func (g *storedSegment) hotRun(r *segment.Reader, h *segment.HotRun) segment.Source {
	at := g.Start + int64(h.Off)
	r.Reset(&g.file.File, at, at+int64(h.Len))
	return r
}

// segments is the segments of the store, and who reads those that it had.
// Store.mu guards it.
type segments struct {
	*directory
	catalog    *catalog
	maxFile    int64  // see Options.FileSize
	maxKnown   int64  // bytes of memory for where ranges are, and as many for hot runs
	onlyLatest func() // called when nobody reads earlier versions any more

	list    []*storedSegment // replaced, never changed
	version *version         // of list
	old     int              // how many versions before it are still being read
	closed  bool

	size     atomic.Int64   // about what segments and blob files take
	manyHot  atomic.Bool    // hot runs take as much memory as they may
	discards sync.WaitGroup // of files that were merged
}

// fileSize is the size above which a new data file is begun. Space is given
// back file by file, so they are a small part of the store.
func (ss *segments) fileSize() int64 {
	return min(ss.maxFile, max(minFile, ss.size.Load()/16))
}

// What is known of segments, from their footers, grows with the store. Of the
// memory, 1/32 is for where their ranges are, and 1/32 for their hot runs.

// withinMemory returns segments that take no more than that: the finest get half
// as many ranges, as often as needed, which only makes reads of them longer. From
// when hot runs take too much, new segments get none.
func (ss *segments) withinMemory(list []*storedSegment) []*storedSegment {
	limit := ss.maxKnown
	for {
		var ranges, hot int64
		finest := uint8(0)
		for _, g := range list {
			ranges += g.OffsetMemory()
			hot += g.HotMemory()
			finest = max(finest, g.Bits)
		}
		ss.manyHot.Store(hot > limit)
		if ranges <= limit || finest == 0 {
			return list
		}
		list = slices.Clone(list) // readers have the old one
		for i, g := range list {
			if g.Bits == finest {
				list[i] = &storedSegment{Layout: g.Coarser(), file: g.file, ledger: g.ledger}
			}
		}
	}
}

// version is the list of segments from one merge to the next. Readers hold the
// one that they began with. All fields are guarded by Store.mu.
type version struct {
	refs int // readers, plus one for the store or for the version before

	// Once this version and all before it are out of use, nobody reads the
	// doomed files any more, nor what follows a cut.
	doomed []*dataFile
	cuts   []fileCut
	next   *version
}

// fileCut is a file whose last segments were merged into another.
type fileCut struct {
	file *dataFile
	end  int64
}

// hold counts a reader of the segments. mu is held.
func (ss *segments) hold() *version {
	ss.version.refs++
	return ss.version
}

// release counts one reader less, and lets go of files that nobody reads
// any more. mu is held.
func (ss *segments) release(v *version) {
	for v != nil {
		if v.refs--; v.refs > 0 {
			return
		}
		if ss.discard(v.doomed, v.cuts); v != ss.version {
			if ss.old--; ss.old == 0 {
				ss.onlyLatest()
			}
		}
		v = v.next // which the one before it held
	}
}

// next begins a version. What the one before alone holds is given. mu is
// held.
func (ss *segments) next(doomed []*dataFile, cuts []fileCut) {
	old := ss.version
	ss.version = &version{refs: 2}
	ss.old++
	old.doomed, old.cuts, old.next = doomed, cuts, ss.version
	ss.release(old)
}

// discard closes and shortens files. Freeing their blocks may take a while, so
// a goroutine does it, for which Close waits. mu is held.
func (ss *segments) discard(doomed []*dataFile, cuts []fileCut) {
	if ss.closed {
		cuts = nil // another process may have the store; it cuts them itself
	}
	cuts = slices.DeleteFunc(slices.Clone(cuts), func(c fileCut) bool {
		return !slices.Contains(ss.catalog.files.files(), c.file) // of a store that was dropped
	})
	if len(doomed)+len(cuts) == 0 {
		return
	}
	free := func() {
		// A sync of the files that were there when it began may be under way.
		ss.syncs.Lock()
		defer ss.syncs.Unlock()
		for _, f := range doomed {
			ss.warn(f.f.Close(), "closing a merged file failed", "path", f.Path)
		}
		for _, c := range cuts {
			ss.cutOff(c.file, c.end)
		}
	}
	if ss.closed {
		free()
		return
	}
	ss.discards.Go(free)
}

// What was merged may have followed other segments in a file, which is then
// shortened. Readers of the same store are waited for, by version. Those that
// outlive a store that was closed, here or in another process, hold a shared
// lock of each file.

var errStillRead = errors.New("it is still being read")

// shortenFiles cuts off what merged segments left behind the end of a file, of
// which no more will be written.
func (s *Store) shortenFiles() {
	for _, f := range s.catalog.files.files() {
		if f.Kind != segment.SegmentFile || f == s.sealer.file {
			continue
		}
		if size, err := f.size(); err != nil || size > f.end {
			s.cutOff(f, f.end)
		}
	}
}

// lockForReaders makes others leave the files of a closed store as they are
// until its last reader ends. mu is held.
func (s *Store) lockForReaders() {
	if s.catalog.files.refs.Load() == 1 {
		return // there is none
	}
	for _, f := range s.catalog.files.files() {
		if f.Kind != segment.SegmentFile {
			continue
		}
		l := s.fs.NewLock(f.Path)
		if got, err := l.TryLock(false); err != nil || !got {
			s.log.Warn("logstore: a file that is still being read could not be locked", "path", f.Path, "err", err)
			continue
		}
		s.catalog.files.locks = append(s.catalog.files.locks, l)
	}
}
