package logstore

import (
	"bytes"
	"slices"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
)

// divide emits the keys with hashes in r, which are too large to load together. It measures 1024
// subintervals, and loads groups of them that fit into memory.
func (w *scanWorker) divide(r hashRange) error {
	if r.lo == r.hi {
		return w.emitHash(r.lo)
	}
	const count = 1024
	width := (r.hi-r.lo)/count + 1
	var sizes [count]int64
	for i := range w.sc.v.sources() {
		err := w.eachEntryIn(i, r, func(e *segment.Entry, h uint64) error {
			if !w.isStreamed(h, e.Key) {
				sizes[(h-r.lo)/width] += int64(len(e.Raw))
			}
			return nil
		})
		if err != nil {
			return w.sc.v.runError(i, err)
		}
	}
	sizeOf := func(i int) int64 { return sizes[i] }
	lastIndex := int((r.hi - r.lo) / width)
	for first := 0; first <= lastIndex; {
		end, size := packRanges(first, lastIndex+1, sizeOf, w.sc.loadBytes)
		smaller := hashRange{r.lo + uint64(first)*width, r.hi}
		if end <= lastIndex {
			smaller.hi = r.lo + uint64(end)*width - 1
		}
		var err error
		if size > w.sc.loadBytes {
			err = w.divide(smaller)
		} else {
			err = w.loadAndGroup(smaller, true)
		}
		if err != nil {
			return err
		}
		first = end
	}
	return nil
}

// emitHash emits the keys with the given hash, one at a time, because they are too large to load
// together. Usually there is only one such key.
func (w *scanWorker) emitHash(hash uint64) error {
	filtered := w.filtered && w.interval.contains(hash)
	var lastKey []byte
	for first := true; ; first = false {
		keys, hasMore, err := w.keysWithHash(hash, lastKey, first, filtered)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := w.emitPending(hash, k); err != nil {
				return err
			}
			if err := w.emitStream(k, hash, nil); err != nil {
				return err
			}
		}
		if !hasMore {
			return nil
		}
		lastKey = keys[len(keys)-1]
	}
}

// keysWithHash returns, in order, as many keys with the given hash as fit into memory. Unless first
// is set, it returns only keys greater than after. hasMore reports whether there are more. It omits
// streamed keys (keys with hot runs). If first is set, it also adds all entries with this hash to
// the ledger. If filtered is set too, it does not add the entries of streamed keys, because they
// were added earlier.
func (w *scanWorker) keysWithHash(hash uint64, after []byte, first, filtered bool) (keys [][]byte, hasMore bool, err error) {
	seen := map[string]bool{}
	var size int64
	var limit []byte // ignore keys greater than this, because they do not fit into memory; nil if all fit
	shorten := func() {
		keys = keys[:0]
		for k := range seen {
			keys = append(keys, []byte(k))
		}
		slices.SortFunc(keys, bytes.Compare)
		if size > w.sc.loadBytes && len(keys) > 1 {
			keys = keys[:len(keys)/2]
			limit = keys[len(keys)-1]
			clear(seen)
			size = 0
			for _, k := range keys {
				seen[string(k)] = true
				size += int64(len(k)) + 64
			}
		}
	}
	for i := range w.sc.v.sources() {
		err := w.eachEntryIn(i, hashRange{hash, hash}, func(e *segment.Entry, _ uint64) error {
			streamed := w.isStreamed(hash, e.Key)
			if first && !(streamed && filtered) {
				if err := w.addToLedger(e); err != nil {
					return err
				}
			}
			if streamed || !first && bytes.Compare(e.Key, after) <= 0 || seen[string(e.Key)] {
				return nil
			}
			if limit != nil && bytes.Compare(e.Key, limit) > 0 {
				return nil
			}
			seen[string(e.Key)] = true
			if size += int64(len(e.Key)) + 64; size > w.sc.loadBytes {
				shorten()
			}
			return nil
		})
		if err != nil {
			return nil, false, w.sc.v.runError(i, err)
		}
	}
	shorten()
	return keys, limit != nil, nil
}

// emitSize emits a key with the size of its value. It does not read hot runs, because the footers
// of segments contain their sizes.
func (w *scanWorker) emitSize(key []byte, hash uint64) error {
	var size int64
	exists := false
	for i := range w.sc.v.sources() {
		src, hot := w.sc.v.keySource(i, hash, key, &w.reader)
		if hot != nil {
			if hot.Resets {
				size = 0
			}
			size += hot.Bytes
			exists = !hot.Deleted
			continue
		}
		err := segment.EachEntry(src, func(e *segment.Entry) error {
			if err := canceled.Err(w.sc.ctx); err != nil {
				return err
			}
			if !bytes.Equal(e.Key, key) {
				return nil
			}
			n, err := e.ValueLen()
			if e.Kind == segment.KindSet || e.Kind == segment.KindDelete {
				size = 0
			}
			size += n
			exists = e.Kind != segment.KindDelete
			return err
		})
		if err != nil {
			return w.sc.v.runError(i, err)
		}
	}
	if !exists {
		return nil
	}
	return w.emitKeySize(key, size)
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
