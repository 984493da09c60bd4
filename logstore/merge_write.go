package logstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"

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

	bits  uint8
	limit int64 // bytes that are loaded at once
	most  int64 // bytes of a segment, about
	exact bool  // large values are read, so that each of several segments has a ledger of its own

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

// inputs is the segments that are merged.
func (j *mergeJob) inputs() []*storedSegment { return j.v.segments[j.first:j.end] }

// ledger is the account of the segments that are merged.
func (j *mergeJob) ledger() Ledger {
	var l Ledger
	for _, g := range j.inputs() {
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
	j.most = min(j.s.mostMerged(), max(leastFile, j.s.tableBytes, j.inputBytes/8))
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
	want, got := j.ledger(), j.total
	want.sub(j.removed)
	if j.blobs && !j.exact {
		// The sum over large values was not computed. Their number and lengths were.
		got.Sum = want.Sum
	}
	if err := want.diff(got); err != nil {
		return &partd.CorruptError{Path: j.s.dir, Offset: -1, Err: fmt.Errorf("of the segments that were merged, %w", err)}
	}
	if len(j.out) == 1 {
		return nil
	}
	var sum Ledger
	for _, g := range j.out {
		sum.Add(g.ledger)
	}
	return want.diff(sum)
}

// firstHash is the lowest hash of a range of the new segments.
func (j *mergeJob) firstHash(unit int) uint64 { return uint64(unit) << 1 << (63 - j.bits) }

func (j *mergeJob) lastHash(unit int) uint64 {
	if unit+1 == 1<<j.bits {
		return math.MaxUint64
	}
	return j.firstHash(unit+1) - 1
}

// unitSize returns about how many bytes go to a range.
func (j *mergeJob) unitSize(unit int) int64 {
	lo, hi := j.firstHash(unit), j.lastHash(unit)
	var n int64
	for _, g := range j.inputs() {
		a, b := g.RangeOf(lo), g.RangeOf(hi)
		size := int64(g.Off[b+1] - g.Off[a])
		if g.Raw != nil {
			size = 0
			for r := a; r <= b; r++ {
				size += int64(g.Raw[r])
			}
		}
		if g.Bits < j.bits {
			size >>= j.bits - g.Bits
		}
		n += size
	}
	return n
}

// writeRanges writes all ranges, as many at a time as can be loaded.
func (j *mergeJob) writeRanges() error {
	units := 1 << j.bits
	for lo := 0; lo < units; {
		hi, size := lo+1, j.unitSize(lo)
		for hi < units {
			more := j.unitSize(hi)
			if size+more > j.limit*3/4 {
				break
			}
			size += more
			hi++
		}
		if err := j.writeUnits(lo, hi); err != nil {
			return err
		}
		lo = hi
	}
	return nil
}

// writeUnits writes some ranges.
func (j *mergeJob) writeUnits(lo, hi int) error {
	most := j.limit / 2
	if hi-lo == 1 {
		most = math.MaxInt64
	}
	err := j.findResets(j.firstHash(lo), j.lastHash(hi-1), most)
	var loaded []byte
	if err == nil {
		loaded, err = j.load(lo, hi)
	}
	if err == errTooMuch {
		if hi-lo == 1 {
			return j.stream(lo)
		}
		mid := (lo + hi) / 2
		if err := j.writeUnits(lo, mid); err != nil {
			return err
		}
		return j.writeUnits(mid, hi)
	}
	if err != nil {
		return err
	}
	sorted := j.arenas[1]
	starts, err := scatter(sorted, loaded, hi-lo, func(key []byte) int { return j.unitOf(j.s.format.HashBytes(key)) - lo })
	if err != nil {
		return err
	}
	for u := lo; u < hi; u++ {
		b := sorted[starts[u-lo]:starts[u-lo+1]]
		if len(b) == 0 {
			continue
		}
		if err := j.beginRange(u); err != nil {
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
		j.w.EndRange(u)
	}
	return nil
}

func (j *mergeJob) unitOf(hash uint64) int { return int(hash >> 1 >> (63 - j.bits)) }

// load loads the entries of some ranges, in order.
func (j *mergeJob) load(lo, hi int) ([]byte, error) {
	loaded := j.arenas[0][:0]
	err := j.eachLive(j.firstHash(lo), j.lastHash(hi-1), func(e *segment.Entry) error {
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
func (j *mergeJob) stream(unit int) error {
	lo, hi := j.firstHash(unit), j.lastHash(unit)
	if err := j.findHeavy(lo, hi); err != nil {
		return err
	}
	if err := j.beginRange(unit); err != nil {
		return err
	}
	err := j.eachLive(lo, hi, func(e *segment.Entry) error {
		if j.w.Written() > j.most {
			j.w.EndRange(unit)
			if err := j.split(); err != nil {
				return err
			}
			if err := j.beginRange(unit); err != nil {
				return err
			}
		}
		return j.put(e)
	})
	if err == nil {
		j.w.EndRange(unit)
	}
	return err
}
