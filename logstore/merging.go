package logstore

import (
	"errors"
	"math"

	"github.com/go-partd/partd/internal/engine/segment"
)

// merging decides when to merge segments and creates the jobs. Store.mu guards the fields from
// bytes on.
type merging struct {
	*directory
	locks    *storeLocks
	format   *segment.Format
	catalog  *catalog
	segments *segmentList
	views    *views
	tables   *memtables
	journal  *journal
	sealer   *sealer
	reclaim  *reclaiming

	storeMemory int64       // Options.Memory
	compression Compression // compression format of new segments
	loadBytes   int64       // maximum bytes that a job loads at a time; 0 means a fraction of storeMemory

	minCount int   // number of small segments at which a merge starts; if negative, the store never merges
	smallLen int64 // maximum length of a small segment
	maxLen   int64 // approximate maximum length of a merged segment

	bytes      int64 // size of the segments being merged
	memory     int64 // bytes in use by the merge
	isStopping bool  // the store is closing, so only short merges may start
	retryCount int   // number of segments at which to merge again after a failure
}

// firstDue reports whether to merge ss.list[first:]. A merge that only speeds up Gets must not exceed
// maxBytes.
func (m *merging) firstDue(ss *segmentList, maxBytes int64) (first int, due bool) {
	if m.minCount < 0 || len(ss.list) < m.retryCount {
		return 0, false
	}
	sizes := make([]int64, len(ss.list))
	for i, seg := range ss.list {
		sizes[i] = seg.UncompressedLen()
	}
	if first, due := dueSmall(sizes, m.smallLen, m.minCount); due {
		return first, true
	}
	for i, seg := range ss.list {
		sizes[i] = seg.StoredLen()
	}
	first, cost := bestMergeForGets(sizes)
	if cost == 0 {
		ss.wasteLimit.Store(math.MaxInt64)
		return 0, false
	}
	ss.wasteLimit.Store(cost)
	return first, sizeOf(ss.list[first:]) <= maxBytes && ss.wasted.Load() >= cost
}

// maxCloseMerge is the size of the largest merge that Close waits for, in bytes. If Close canceled
// all merges, a store that is opened often but briefly would accumulate segments.
const maxCloseMerge = 64 << 20

var errDropped = errors.New("the store was dropped or closed during the merge")

// dueMerge reports whether to merge all segments from index first on. mu must be held.
func (m *merging) dueMerge() (first int, due bool) {
	// A merge that only speeds up Gets would also copy dead data. So dead data reduces the maximum
	// size of such a merge.
	return m.firstDue(m.segments, m.segments.size.Load()+m.reclaim.slack-2*m.reclaim.dead())
}
