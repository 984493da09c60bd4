package logstore

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/storekit"
)

// segmentList lists the store's segments and tracks earlier versions of the list that readers still
// use. Store.mu guards it.
type segmentList struct {
	*directory
	catalog       *catalog
	maxFile       int64  // Options.FileSize
	maxIndex      int64  // maximum memory of the offsets of ranges, and also of the index of hot runs, in bytes
	onOldReleased func() // called when the last reader of an earlier version ends

	list        []*storedSegment // copy-on-write
	version     *version         // current version of list
	oldVersions int              // number of earlier versions that are still in use
	closed      bool

	size     atomic.Int64   // approximate size of segments and blob files
	hotFull  atomic.Bool    // the index of hot runs exceeds maxIndex, so no new hot runs are created
	discards sync.WaitGroup // goroutines that free files of merged segments

	wasted     atomic.Int64 // extra bytes that Get has read because there are several segments
	wasteLimit atomic.Int64 // value of wasted at which to consider a merge
}

// fileSize returns the size at which to begin a new data file. It is a small fraction of
// the store's size, because space is freed one file at a time.
func (ss *segmentList) fileSize() int64 {
	return min(ss.maxFile, max(minFileSize, ss.size.Load()/16))
}

// limitIndex merges pairs of ranges until the offsets of all ranges need at most maxIndex bytes of
// memory. Wider ranges only make reads longer. If the index of hot runs needs too much memory,
// limitIndex sets hotFull.
func (ss *segmentList) limitIndex(list []*storedSegment) []*storedSegment {
	limit := ss.maxIndex
	for {
		var offsetBytes, hotBytes int64
		finest := uint8(0)
		for _, seg := range list {
			offsetBytes += seg.OffsetMemoryUsed()
			hotBytes += seg.HotMemoryUsed()
			finest = max(finest, seg.Bits)
		}
		ss.hotFull.Store(hotBytes > limit)
		if offsetBytes <= limit || finest == 0 {
			return list
		}
		list = slices.Clone(list) // readers use the old list
		for i, seg := range list {
			if seg.Bits == finest {
				list[i] = &storedSegment{Layout: seg.Coarser(), file: seg.file, ledger: seg.ledger}
			}
		}
	}
}

// version represents the segment list between two merges. Each reader holds a reference to its
// version, so that the files of that version stay open and complete. Store.mu guards the fields.
type version struct {
	refs int // readers, plus one each for the store and the previous version

	// When no reader uses this version or an earlier one, the doomed files are closed,
	// and the files in cuts are truncated.
	doomed []*dataFile
	cuts   []fileCut
	next   *version
}

// fileCut describes a file to truncate, because its last segments were merged.
type fileCut struct {
	file *dataFile
	end  int64
}

// acquire adds a reference to the current version and returns the version. mu must be held.
func (ss *segmentList) acquire() *version {
	ss.version.refs++
	return ss.version
}

// release removes a reference and frees files that are no longer read. mu must be held.
func (ss *segmentList) release(v *version) {
	for v != nil {
		v.refs--
		if v.refs > 0 {
			return
		}
		ss.discard(v.doomed, v.cuts)
		if v != ss.version {
			ss.oldVersions--
			if ss.oldVersions == 0 {
				ss.onOldReleased()
			}
		}
		v = v.next // release this version's reference to the next
	}
}

// startVersion begins a version that no longer needs the doomed files, nor the ends that cuts remove
// from other files. mu must be held.
func (ss *segmentList) startVersion(doomed []*dataFile, cuts []fileCut) {
	prev := ss.version
	ss.version = &version{refs: 2}
	ss.oldVersions++
	prev.doomed, prev.cuts, prev.next = doomed, cuts, ss.version
	ss.release(prev)
}

// discard closes and truncates files in the background, because freeing blocks may take a long
// time. mu must be held.
func (ss *segmentList) discard(doomed []*dataFile, cuts []fileCut) {
	if ss.closed {
		cuts = nil // another process may have opened the store; Open truncates the files
	}
	cuts = slices.DeleteFunc(slices.Clone(cuts), func(c fileCut) bool {
		return !slices.Contains(ss.catalog.files.files(), c.file) // Drop has removed the file
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

func (ss *segmentList) load(f *dataFile) error {
	if f.Kind != segment.SegmentFile {
		return nil
	}
	var list []*storedSegment
	for end := f.end; end > segment.HeaderLen; {
		layout, ledger, err := segment.ReadFooter(&f.File, end)
		if err != nil {
			return err
		}
		seg := &storedSegment{Layout: layout, file: f}
		seg.ledger.Parse(ledger)
		list = append(list, seg)
		end = seg.Start
	}
	slices.Reverse(list)
	ss.list = ss.limitIndex(append(ss.list, list...))
	return nil
}

type storedSegment struct {
	segment.Layout
	file   *dataFile
	ledger segment.Ledger
}

// rangesLen returns the stored length of the segment's ranges that overlap the hashes [lo, hi].
func (seg *storedSegment) rangesLen(lo, hi uint64) int64 {
	return int64(seg.Offsets[seg.RangeIndex(hi)+1] - seg.Offsets[seg.RangeIndex(lo)])
}

// openRanges resets r to the segment's ranges that overlap the hashes [lo, hi] and returns r.
func (seg *storedSegment) openRanges(r *segment.Reader, lo, hi uint64) segment.Source {
	start, end := seg.Offsets[seg.RangeIndex(lo)], seg.Offsets[seg.RangeIndex(hi)+1]
	r.Reset(&seg.file.File, seg.Start+int64(start), seg.Start+int64(end))
	return r
}

func (seg *storedSegment) openHotRun(r *segment.Reader, h *segment.HotRun) segment.Source {
	start := seg.Start + int64(h.Off)
	r.Reset(&seg.file.File, start, start+int64(h.Len))
	return r
}

// rangesSize returns the uncompressed size of the segment's ranges [first, end).
func (seg *storedSegment) rangesSize(first, end int) int64 {
	if seg.RawLens == nil {
		return int64(seg.Offsets[end] - seg.Offsets[first])
	}
	var n int64
	for _, raw := range seg.RawLens[first:end] {
		n += int64(raw)
	}
	return n
}

// rangeSize returns the uncompressed size of the segment's entries in range i of 2^bits ranges of
// hashes. It is approximate if the segment's own ranges are wider.
func (seg *storedSegment) rangeSize(i int, bits uint8) int64 {
	lo, hi := segment.HashBounds(i, i+1, bits)
	return seg.rangesSize(seg.RangeIndex(lo), seg.RangeIndex(hi)+1) >> (max(bits, seg.Bits) - seg.Bits)
}

// segmentLocation identifies a segment. A pointer to a storedSegment cannot, because limitIndex
// replaces the storedSegment.
type segmentLocation struct {
	file  *dataFile
	start int64
}

func (seg *storedSegment) location() segmentLocation { return segmentLocation{seg.file, seg.Start} }

func ledgerOf(segments []*storedSegment) (l segment.Ledger) {
	for _, seg := range segments {
		l.Add(seg.ledger)
	}
	return l
}

func sizeOf(segments []*storedSegment) (n int64) {
	for _, seg := range segments {
		n += seg.StoredLen()
	}
	return n
}

// packRanges returns the largest end, up to count, such that the ranges [first, end) fit into
// limit bytes. It includes at least one range, whatever its size.
func packRanges(first, count int, rangeSize func(r int) int64, limit int64) (end int) {
	size := rangeSize(first)
	for end = first + 1; end < count; end++ {
		size += rangeSize(end)
		if size > limit {
			break
		}
	}
	return end
}

// errRangeTooLarge means that a range of hashes exceeds the memory limit.
var errRangeTooLarge = errors.New("the range exceeds the memory limit")

func wrongRangeError(key []byte) error {
	return fmt.Errorf("key %s is in the wrong range", storekit.QuoteKey(string(key)))
}
