package logstore

import (
	"bytes"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
)

// emitHash emits the keys with the given hash, one at a time, because they are too large to load
// together. Usually there is only one such key. emitHash omits streamed keys.
func (w *scanWorker) emitHash(hash uint64) error {
	key, hasMore, err := w.nextKey(hash, nil)
	for ; err == nil && key != nil; key, hasMore, err = w.nextKey(hash, key) {
		if err := w.emitPending(hash, key); err != nil {
			return err
		}
		if err := w.emitStream(key, hash); err != nil || !hasMore {
			return err
		}
	}
	return err
}

// nextKey returns the smallest key with the given hash that is greater than after, or the smallest
// of all if after is nil, and reports whether there are greater keys. It omits streamed keys. If
// there is no such key, it returns nil.
func (w *scanWorker) nextKey(hash uint64, after []byte) (next []byte, hasMore bool, err error) {
	for i := range w.sc.v.sources() {
		err := w.eachEntryIn(i, hashRange{hash, hash}, func(e *segment.Entry, _ uint64) error {
			if w.isStreamed(hash, e.Key) || after != nil && bytes.Compare(e.Key, after) <= 0 || next != nil && bytes.Equal(e.Key, next) {
				return nil
			}
			hasMore = hasMore || next != nil
			if next == nil || bytes.Compare(e.Key, next) < 0 {
				next = bytes.Clone(e.Key)
			}
			return nil
		})
		if err != nil {
			return nil, false, w.sc.v.runError(i, err)
		}
	}
	return next, hasMore, nil
}

// emitSize emits a key with the size of its value. It does not read hot runs, because the footers
// of segments contain their sizes.
func (w *scanWorker) emitSize(key []byte, hash uint64) error {
	size := keySize{deleted: true}
	for i := range w.sc.v.sources() {
		src, hot := w.sc.v.keySource(i, hash, key, &w.reader)
		if hot != nil {
			if hot.Resets {
				size.valueLen = 0
			}
			size.valueLen += hot.Bytes
			size.deleted = hot.Deleted
			continue
		}
		err := segment.EachEntry(src, func(e *segment.Entry) error {
			if err := canceled.Err(w.sc.ctx); err != nil {
				return err
			}
			if !bytes.Equal(e.Key, key) {
				return nil
			}
			return size.add(e)
		})
		if err != nil {
			return w.sc.v.runError(i, err)
		}
	}
	if size.deleted {
		return nil
	}
	return w.emitKeySize(key, size.valueLen)
}

// scanBits returns the number of hash bits that select a range of the scan; partitions consist of
// such ranges. Segments and tables have ranges of different widths. To load a partition that is
// only a part of a segment's range, the scan must read that whole range. If this would waste many
// bytes, scanBits chooses wider ranges, of at most limit bytes.
func (v *view) scanBits(limit int64) uint8 {
	var total int64
	var sizes [64]int64 // bytes of the sources, by their number of bits
	add := func(bits uint8, n int64) {
		sizes[bits] += n
		total += n
	}
	for _, seg := range v.segments {
		add(seg.Bits, seg.rangesSize(0, len(seg.Offsets)-1))
	}
	for i := range v.tables {
		for _, p := range v.tables[i].parts {
			add(v.tables[i].t.bits, int64(p.size))
		}
	}
	bits := v.finestBits()
	for ; bits > 0 && total>>(bits-1) <= limit; bits-- {
		var wider int64
		for b, n := range sizes[:bits] {
			wider += n >> b
		}
		if wider <= max(maxBatchBytes, total>>bits)/4 {
			break
		}
	}
	return bits
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

// rangeSize returns the approximate size of range i of the scan, without hot keys.
func (sc *scanner) rangeSize(i int) int64 {
	var n int64
	lo, hi := segment.HashBounds(i, i+1, sc.bits)
	for _, seg := range sc.v.segments {
		n += seg.rangeSize(i, sc.bits)
	}
	for i := range sc.v.tables {
		t := &sc.v.tables[i]
		for p := segment.RangeIndex(lo, t.t.bits); p <= segment.RangeIndex(hi, t.t.bits); p++ {
			n += int64(t.parts[p-t.base].size) >> (max(sc.bits, t.t.bits) - t.t.bits)
		}
	}
	return n
}
