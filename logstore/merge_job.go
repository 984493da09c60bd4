package logstore

import (
	"context"
	"errors"
	"math/bits"

	"github.com/go-partd/partd/internal/engine/segment"
)

// mergeJob merges consecutive segments, range by range, into one segment, or into several
// with consecutive ranges. It drops dead entries, and subtracts them from the store's ledger.
type mergeJob struct {
	*merging
	ctx        context.Context
	view       *view
	first, end int // view.segments[first:end] are merged; the other segments only show which entries are dead
	listIndex  int // index of the first merged segment in segments.list
	inputBytes int64
	hasOldest  bool // the view includes the oldest segment
	reclaims   bool // the merge reclaims space

	bits       uint8
	limit      int64 // maximum bytes loaded at a time
	maxLen     int64 // approximate maximum length of a segment
	readsBlobs bool  // read large values to compute the ledger of each of several outputs

	hot       []segment.HotRun // keys with their own runs, sorted
	comp      *segment.Compressor
	w         *segment.Writer
	current   *storedSegment   // segment being written
	outputs   []*storedSegment // complete segments
	wroteBlob bool             // an entry that refers to a large value was written
	total     segment.Ledger   // ledger of the written entries; Sum omits large values unless readsBlobs is set
	arenas    [2][]byte
	src       segment.Reader
	er        segment.EntryReader

	resets  map[string]*keyReset
	dropped segment.Ledger   // ledger of the dropped entries
	freed   map[uint32]int64 // bytes of dropped large values, by blob file
}

func (j *mergeJob) inputs() []*storedSegment { return j.view.segments[j.first:j.end] }

// errSplitBlobs is returned by finish; run then starts the merge again with readsBlobs.
var errSplitBlobs = errors.New("the merge must read large values, because it writes several segments")

func (j *mergeJob) plan() {
	size := max(j.inputBytes, sizeOf(j.view.segments)>>6) // the merge also reads the other segments' ranges
	j.bits = uint8(min(max(bits.Len64(uint64(size/mergedRange)), 1)-1, maxBits))
	j.limit = min(max(j.storeMemory/64, 128<<10), 8<<20)
	j.maxLen = min(j.merging.maxLen, max(minFileSize, j.tables.bytes, j.inputBytes/8))
	if n := j.loadBytes; n > 0 {
		j.limit = n
	}
}

// hotBytes returns the minimum size of a hot key's entries in a merge, in bytes.
func (j *mergeJob) hotBytes() int64 { return max(j.inputBytes/2048, 4<<10) }

// keyReset counts the Sets and Deletes of one key, which discard its earlier entries.
type keyReset struct {
	count        int  // number of the key's Sets and Deletes in the merged and later segments
	passedCount  int  // number of those Sets and Deletes that isDead has seen
	firstSegment int  // for countEntry: index of the first segment with the key, plus one; 0 if not yet seen
	hasOlder     bool // segments older than the merged ones contain, or may contain, entries of the key
}

const resetCost = 80
