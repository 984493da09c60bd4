package logstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/offheap"
	"github.com/go-partd/partd/internal/segment"
)

// mergeJob merges segments that follow each other, range by range, into one, or
// into several of which each has some of the ranges. What was replaced or
// deleted is left out, and moved from the store's ledger to that of what was
// removed.
type mergeJob struct {
	s          *Store
	ctx        context.Context
	v          *view
	first, end int // which of the view's segments are merged; others tell what is dead
	from       int // the place of the first in Store.segments
	inputBytes int64
	pastKnown  bool // no segments but those of the view are older
	reclaims   bool // it is to give space back

	bits   uint8
	limit  int64 // bytes that are loaded at once
	maxLen int64 // bytes of a segment, about
	exact  bool  // large values are read, so that each of several segments has a ledger of its own

	hot    []segment.HotRun // keys that get runs of their own, sorted
	comp   *segment.Compressor
	w      *segment.Writer
	g      *storedSegment   // being written
	out    []*storedSegment // written
	blobs  bool             // a large value was seen
	total  Ledger           // of all that was written, but for large values unless exact
	arenas [2][]byte
	src    segment.Reader
	er     segment.EntryReader

	resets  map[string]*reset
	removed Ledger           // of what was left out
	freed   map[uint32]int64 // bytes of large values that were left out, by file
}

func (j *mergeJob) inputs() []*storedSegment { return j.v.segments[j.first:j.end] }

func ledgerOf(segments []*storedSegment) (l Ledger) {
	for _, g := range segments {
		l.Add(g.ledger)
	}
	return l
}

const maxMerged = 2 << 30 // so that offsets in a segment fit 32 bits

// errSplitBlobs says that what was to be one segment became too large, so that
// its ledger must be divided, which takes reading large values.
var errSplitBlobs = errors.New("several segments with large values")

func (j *mergeJob) plan() {
	of := max(j.inputBytes, sizeOf(j.v.segments)>>6) // what others have of a range is looked at, too
	j.bits = uint8(min(max(bits.Len64(uint64(of/mergedRange)), 1)-1, maxBits))
	j.limit = min(max(j.s.opts.Memory/64, 128<<10), 8<<20)
	j.maxLen = min(j.s.merging.maxLen, max(minFile, j.s.tables.bytes, j.inputBytes/8))
	if n := j.s.hooks.mergeBytes; n > 0 {
		j.limit = n
	}
}

// write writes the new segments, of which the manifest does not know yet.
func (j *mergeJob) write() (err error) {
	if j.comp, err = segment.NewCompressor(segment.Codec(j.s.opts.Compression)); err != nil {
		return err
	}
	for i := range j.arenas {
		if j.arenas[i], err = offheap.Allocate(int(j.limit)); err != nil {
			return err
		}
		defer offheap.Release(j.arenas[i])
	}
	j.total, j.blobs = Ledger{}, false
	j.removed, j.freed = Ledger{}, map[uint32]int64{}
	j.chooseHot()
	if err := j.begin(); err != nil {
		return err
	}
	if err := j.writeRanges(); err != nil {
		return err
	}
	for i := range j.hot {
		if err := j.writeHot(&j.hot[i]); err != nil {
			return err
		}
	}
	if err := j.finish(); err != nil {
		return err
	}
	return j.checkLedger()
}

// checkLedger compares what was written, and what was left out, with what was to be.
func (j *mergeJob) checkLedger() error {
	want, got := ledgerOf(j.inputs()), j.total
	want.Sub(j.removed)
	if j.blobs && !j.exact {
		// The sum over large values was not computed. Their number and lengths were.
		got.Sum = want.Sum
	}
	if err := want.Diff(got); err != nil {
		return &partd.CorruptError{Path: j.s.dir, Offset: -1, Err: fmt.Errorf("of the segments that were merged, %w", err)}
	}
	if len(j.out) == 1 {
		return nil
	}
	return want.Diff(ledgerOf(j.out))
}

// together returns how many ranges, from one to the last before count, have no
// more than limit bytes together, but one at least: where they end, and what they
// have.
func together(first, count int, sizeOf func(r int) int64, limit int64) (end int, size int64) {
	end, size = first+1, sizeOf(first)
	for ; end < count; end++ {
		more := sizeOf(end)
		if size+more > limit {
			break
		}
		size += more
	}
	return end, size
}

// writeRanges writes all ranges, as many at a time as can be loaded.
func (j *mergeJob) writeRanges() error {
	sizeOf := func(r int) (n int64) {
		for _, g := range j.inputs() {
			n += g.rangeSize(r, j.bits)
		}
		return n
	}
	for first := 0; first < 1<<j.bits; {
		end, _ := together(first, 1<<j.bits, sizeOf, j.limit*3/4)
		if err := j.writeSome(first, end); err != nil {
			return err
		}
		first = end
	}
	return nil
}

func (j *mergeJob) writeSome(first, end int) error {
	limit := j.limit / 2
	if end-first == 1 {
		limit = math.MaxInt64
	}
	lo, hi := segment.Bounds(first, end, j.bits)
	err := j.findResets(lo, hi, limit)
	var loaded []byte
	if err == nil {
		loaded, err = j.load(lo, hi)
	}
	if err == errTooMuch {
		if end-first == 1 {
			return j.stream(first)
		}
		mid := (first + end) / 2
		if err := j.writeSome(first, mid); err != nil {
			return err
		}
		return j.writeSome(mid, end)
	}
	if err != nil {
		return err
	}
	sorted := j.arenas[1]
	starts, err := scatter(sorted, loaded, end-first, func(key []byte) int {
		return segment.Range(j.s.format.HashBytes(key), j.bits) - first
	})
	if err != nil {
		return err
	}
	for p := first; p < end; p++ {
		b := sorted[starts[p-first]:starts[p-first+1]]
		if len(b) == 0 {
			continue
		}
		if err := j.beginRange(p); err != nil {
			return err
		}
		for len(b) > 0 {
			e, err := segment.ParseEntry(b)
			if err == nil {
				err = j.put(&e)
			}
			if err != nil {
				return err
			}
			b = b[len(e.Raw):]
		}
		j.w.EndRange(p)
	}
	return nil
}

// load loads the entries in an interval of hashes, in order.
func (j *mergeJob) load(lo, hi uint64) ([]byte, error) {
	loaded := j.arenas[0][:0]
	err := j.eachLive(lo, hi, func(e *segment.Entry) error {
		if len(loaded)+len(e.Raw) > cap(loaded) {
			return errTooMuch
		}
		loaded = append(loaded, e.Raw...)
		return nil
	})
	return loaded, err
}

// stream writes a range that is too large to be loaded, and finds out which
// keys make it so.
func (j *mergeJob) stream(p int) error {
	lo, hi := segment.Bounds(p, p+1, j.bits)
	if err := j.findHeavy(lo, hi); err != nil {
		return err
	}
	if err := j.beginRange(p); err != nil {
		return err
	}
	err := j.eachLive(lo, hi, func(e *segment.Entry) error {
		if j.w.Written() > j.maxLen {
			j.w.EndRange(p)
			if err := j.split(); err != nil {
				return err
			}
			if err := j.beginRange(p); err != nil {
				return err
			}
		}
		return j.put(e)
	})
	if err == nil {
		j.w.EndRange(p)
	}
	return err
}

// scatter copies entries to dst, by place, in order within each, and returns
// where each place begins, and where the last ends.
func scatter(dst, entries []byte, places int, place func(key []byte) int) (starts []int, err error) {
	pos := make([]int, places+1)
	for at := 0; at < len(entries); {
		e, err := segment.ParseEntry(entries[at:])
		if err != nil {
			return nil, err
		}
		pos[place(e.Key)+1] += len(e.Raw)
		at += len(e.Raw)
	}
	for i := 1; i < len(pos); i++ {
		pos[i] += pos[i-1]
	}
	starts = slices.Clone(pos)
	for at := 0; at < len(entries); {
		e, err := segment.ParseEntry(entries[at:])
		if err != nil {
			return nil, err
		}
		p := place(e.Key)
		pos[p] += copy(dst[pos[p]:], e.Raw)
		at += len(e.Raw)
	}
	return starts, nil
}
