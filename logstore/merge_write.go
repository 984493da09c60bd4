package logstore

import (
	"fmt"
	"math"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/engine/segment"
)

// write writes the new segments, but does not add them to the manifest.
func (j *mergeJob) write() (err error) {
	j.comp, err = segment.NewCompressor(segment.Codec(j.compression))
	if err != nil {
		return err
	}
	for i := range j.arenas {
		j.arenas[i], err = offheap.Allocate(int(j.limit))
		if err != nil {
			return err
		}
		defer offheap.Release(j.arenas[i])
	}
	j.total, j.wroteBlob = segment.Ledger{}, false
	j.dropped, j.freed = segment.Ledger{}, map[uint32]int64{}
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

// checkLedger returns an error unless the ledgers of the written and dropped entries add up to the
// inputs' ledgers.
func (j *mergeJob) checkLedger() error {
	want, got := ledgerOf(j.inputs()), j.total
	want.Sub(j.dropped)
	if j.wroteBlob && !j.readsBlobs {
		// j.total.Sum does not cover large values, so compare only counts and lengths.
		got.Sum = want.Sum
	}
	if err := want.Diff(got); err != nil {
		return &partd.CorruptError{Path: j.dir, Offset: -1, Err: fmt.Errorf("data of the merged segments: %w", err)}
	}
	if len(j.outputs) == 1 {
		return nil
	}
	return want.Diff(ledgerOf(j.outputs))
}

func (j *mergeJob) writeRanges() error {
	sizeOf := func(r int) (n int64) {
		for _, seg := range j.inputs() {
			n += seg.rangeSize(r, j.bits)
		}
		return n
	}
	for first := 0; first < 1<<j.bits; {
		end := packRanges(first, 1<<j.bits, sizeOf, j.limit*3/4)
		if err := j.writeRangeGroup(first, end); err != nil {
			return err
		}
		first = end
	}
	return nil
}

// writeRangeGroup writes the ranges [first, end). If they need too much memory at once, it
// divides them.
func (j *mergeJob) writeRangeGroup(first, end int) error {
	limit := j.limit / 2
	if end-first == 1 {
		limit = math.MaxInt64
	}
	lo, hi := segment.HashBounds(first, end, j.bits)
	err := j.findResets(lo, hi, limit)
	var loaded []byte
	if err == nil {
		loaded, err = j.load(lo, hi)
	}
	if err == errRangeTooLarge {
		if end-first == 1 {
			return j.stream(first)
		}
		mid := (first + end) / 2
		if err := j.writeRangeGroup(first, mid); err != nil {
			return err
		}
		return j.writeRangeGroup(mid, end)
	}
	if err != nil {
		return err
	}
	sorted := j.arenas[1]
	starts, err := scatterEntries(sorted, loaded, end-first, func(key []byte) int {
		return segment.RangeIndex(j.format.HashBytes(key), j.bits) - first
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

// load loads the live entries with hashes from lo to hi, in order. It returns errRangeTooLarge if
// they do not fit into memory.
func (j *mergeJob) load(lo, hi uint64) ([]byte, error) {
	loaded := j.arenas[0][:0]
	err := j.eachLive(lo, hi, func(e *segment.Entry) error {
		if len(loaded)+len(e.Raw) > cap(loaded) {
			return errRangeTooLarge
		}
		loaded = append(loaded, e.Raw...)
		return nil
	})
	return loaded, err
}

// stream writes a range that is too large to load. It creates hot runs for the range's largest
// keys.
func (j *mergeJob) stream(p int) error {
	lo, hi := segment.HashBounds(p, p+1, j.bits)
	if err := j.findHeavy(lo, hi); err != nil {
		return err
	}
	if err := j.beginRange(p); err != nil {
		return err
	}
	err := j.eachLive(lo, hi, func(e *segment.Entry) error {
		if j.w.Size() > j.maxLen {
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
	if err != nil {
		return err
	}
	j.w.EndRange(p)
	return nil
}

// scatterEntries copies entries to dst, grouped by the bucket that bucketOf returns. Within a bucket,
// it keeps their order. It returns the start of each bucket and the end of the last bucket.
func scatterEntries(dst, entries []byte, buckets int, bucketOf func(key []byte) int) (starts []int, err error) {
	pos := make([]int, buckets+1)
	for off := 0; off < len(entries); {
		e, err := segment.ParseEntry(entries[off:])
		if err != nil {
			return nil, err
		}
		pos[bucketOf(e.Key)+1] += len(e.Raw)
		off += len(e.Raw)
	}
	for i := 1; i < len(pos); i++ {
		pos[i] += pos[i-1]
	}
	starts = slices.Clone(pos)
	for off := 0; off < len(entries); {
		e, err := segment.ParseEntry(entries[off:])
		if err != nil {
			return nil, err
		}
		p := bucketOf(e.Key)
		pos[p] += copy(dst[pos[p]:], e.Raw)
		off += len(e.Raw)
	}
	return starts, nil
}
