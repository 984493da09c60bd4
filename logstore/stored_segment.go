package logstore

import (
	"errors"
	"fmt"

	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/storekit"
)

type storedSegment struct {
	segment.Layout
	file   *dataFile
	ledger segment.Ledger
}

// rangesLen returns the stored length of the segment's ranges that overlap the hashes [lo, hi].
func (seg *storedSegment) rangesLen(lo, hi uint64) int64 {
	return int64(seg.Offsets[seg.RangeIndex(hi)+1] - seg.Offsets[seg.RangeIndex(lo)])
}

// openRanges makes r read the segment's ranges that overlap the hashes [lo, hi], and returns r.
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

func (g *storedSegment) location() segmentLocation { return segmentLocation{g.file, g.Start} }

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
