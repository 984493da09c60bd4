package logstore

import (
	"bytes"
	"math"
	"slices"

	"github.com/go-partd/partd/internal/engine/segment"
)

// group emits the keys with hashes in r, which load must have loaded. If there are more entries
// than fit into memory, it divides the interval at the median hash of those that fit. It emits the
// keys with that hash separately, because many entries may have it.
func (w *scanWorker) group(r hashRange) error {
	oldLedger := w.ledger
	complete, err := w.collect(r)
	if err != nil {
		return err
	}
	if !complete && r.lo == r.hi {
		w.ledger = oldLedger
		return w.emitHash(r.lo)
	}
	if cap(w.spare) < len(w.refs) {
		w.spare = make([]entryRef, cap(w.refs))
	}
	w.refs, w.spare = sortByHash(w.refs, w.spare[:len(w.refs)], r, &w.counts)
	if complete {
		return w.emitRefs(w.refs)
	}
	w.ledger = oldLedger
	emit, median := w.group, r.lo+(r.hi-r.lo)/2
	if w.truncated {
		emit = w.emitRange
	}
	if len(w.refs) > 0 {
		median = w.refs[len(w.refs)/2].hash
	}
	if median > r.lo {
		if err := emit(hashRange{r.lo, median - 1}); err != nil {
			return err
		}
	}
	if err := emit(hashRange{median, median}); err != nil {
		return err
	}
	if median < r.hi {
		return emit(hashRange{median + 1, r.hi})
	}
	return nil
}

// collect fills refs with the loaded entries whose hashes are in r, except those of streamed keys.
// It adds them to the ledger, except large values. It returns false if there are more than maxRefs
// entries, or if loaded is truncated.
func (w *scanWorker) collect(r hashRange) (complete bool, err error) {
	data, refs, ledger, format := w.loaded, w.refs[:0], w.ledger, w.sc.scans.format
	defer func() { w.refs, w.ledger = refs, ledger }()
	for off := 0; off < len(data); {
		kind, keyStart, valueStart, end, ok := segment.ParseShort(data, off)
		if !ok {
			e, err := segment.ParseEntry(data[off:])
			if err == segment.ErrShortEntry && w.truncated {
				return false, nil
			}
			if err != nil {
				return false, w.sc.scans.corruptError(err)
			}
			kind, end = e.Kind, off+len(e.Raw)
			valueStart = end - len(e.Value)
			keyStart = valueStart - len(e.Key)
		}
		key := data[keyStart:valueStart]
		h := format.HashBytes(key)
		if !r.contains(h) {
			if !w.interval.contains(h) {
				return false, w.sc.scans.corruptError(wrongRangeError(key))
			}
			off = end
			continue
		}
		if len(w.streamedKeys) > 0 && w.isStreamed(h, key) {
			off = end
			continue
		}
		if len(refs) == w.sc.maxRefs {
			return false, nil
		}
		if kind != segment.KindBlob && !w.sc.keysOnly {
			hashed := off + 1
			for data[hashed-1] >= 0x80 { // skip the length of the value
				hashed++
			}
			ledger.AddEntry(kind, data[hashed:end], end-valueStart)
		}
		refs = append(refs, entryRef{
			hash: h, keyAndKind: uint32(keyStart)<<2 | uint32(kind),
			keyLen: uint16(valueStart - keyStart), valueLen: uint16(end - valueStart),
		})
		off = end
	}
	return !w.truncated, nil
}

// emitRefs emits the entries of refs, which must be sorted by hash.
func (w *scanWorker) emitRefs(refs []entryRef) error {
	for i := 0; i < len(refs); {
		hash, end := refs[i].hash, i
		size, kinds := 0, uint32(0)
		for ; end < len(refs) && refs[end].hash == hash; end++ {
			size += int(refs[end].valueLen)
			kinds |= refs[end].keyAndKind & 3
		}
		simple := kinds == uint32(segment.KindAppend) && size <= w.sc.batchBytes &&
			(len(w.pendingKeys) == 0 || w.pendingKeys[0].Hash > hash)
		if simple {
			var err error
			simple, err = w.emitAppends(refs[i:end], size)
			if err != nil {
				return err
			}
		}
		if !simple {
			if err := w.emitEqualHashes(refs[i:end]); err != nil {
				return err
			}
		}
		i = end
	}
	return nil
}

// emitAppends emits the key of refs, whose entries must all be appends, of size bytes in total. If
// the entries have different keys, it emits nothing and returns false.
func (w *scanWorker) emitAppends(refs []entryRef, size int) (single bool, err error) {
	data := w.loaded
	key := refs[0].key(data)
	b, err := w.reserve(len(key) + size)
	if err != nil {
		return false, err
	}
	start := len(b.data)
	if w.sc.keysOnly {
		size = 0
	}
	b.data = slices.Grow(b.data, size)
	dst := b.data[start : start+size]
	total := 0
	for i := range refs {
		if string(refs[i].key(data)) != string(key) {
			return false, nil
		}
		total += int(refs[i].valueLen)
		if !w.sc.keysOnly {
			dst = dst[copy(dst, refs[i].value(data)):]
		}
	}
	b.data = b.data[:start+size]
	b.add(key, scanItem{start: uint32(start), n: uint32(size), size: int64(total), last: true})
	return true, nil
}

// emitEqualHashes emits, in order, the keys of refs and the streamed keys between them. The refs
// must have equal hashes.
func (w *scanWorker) emitEqualHashes(refs []entryRef) error {
	data := w.loaded
	for len(refs) > 0 {
		key, n := refs[0].key(data), 1
		for n < len(refs) && string(refs[n].key(data)) == string(key) {
			n++
		}
		byKey := func(a, b entryRef) int { return bytes.Compare(a.key(data), b.key(data)) }
		if n < len(refs) && !slices.IsSortedFunc(refs, byKey) {
			slices.SortStableFunc(refs, byKey)
			continue
		}
		if err := w.emitPending(refs[0].hash, key); err != nil {
			return err
		}
		if err := w.emitKeyRefs(key, refs[:n]); err != nil {
			return err
		}
		refs = refs[n:]
	}
	return nil
}

// emitKeyRefs emits a key. refs must be all its entries, which may be of any kind.
func (w *scanWorker) emitKeyRefs(key []byte, refs []entryRef) error {
	var size int64
	firstLive := 0 // index of the first entry that belongs to the value
	exists := false
	for i := range refs {
		kind := refs[i].kind()
		if kind == segment.KindSet || kind == segment.KindDelete {
			firstLive, size = i, 0
		}
		if kind == segment.KindBlob {
			blob, err := segment.ParseBlobRef(refs[i].value(w.loaded))
			if err != nil {
				return w.sc.scans.corruptError(err)
			}
			size += blob.Length
		} else {
			size += int64(refs[i].valueLen)
		}
		exists = kind != segment.KindDelete
	}
	if !exists {
		firstLive = len(refs)
	}
	if w.sc.keysOnly {
		if !exists {
			return nil
		}
		return w.emitKeySize(key, size)
	}
	// Also read large values that a later Set or Delete discarded: verify compares the ledger, whose checksum
	// includes them.
	for i := range refs[:firstLive] {
		if refs[i].kind() == segment.KindBlob {
			if err := w.skipBlob(key, refs[i].value(w.loaded)); err != nil {
				return err
			}
		}
	}
	if !exists {
		return nil
	}
	if err := w.beginKey(key); err != nil {
		return err
	}
	for i := range refs[firstLive:] {
		ref := &refs[firstLive+i]
		var err error
		if ref.kind() == segment.KindBlob {
			err = w.addBlob(ref.value(w.loaded))
		} else {
			err = w.addValue(ref.value(w.loaded))
		}
		if err != nil {
			return err
		}
	}
	w.endKey()
	return nil
}

func (w *scanWorker) emitPartition(p *scanPartition) error {
	// If a key has a hot run in any segment, stream it from all segments instead of loading it.
	w.streamedKeys = w.streamedKeys[:0]
	for _, seg := range w.sc.v.segments {
		w.streamedKeys = append(w.streamedKeys, seg.HotBetween(p.hashes.lo, p.hashes.hi)...)
	}
	slices.SortFunc(w.streamedKeys, segment.CompareHot)
	areEqual := func(a, b segment.HotRun) bool { return segment.CompareHot(a, b) == 0 }
	w.streamedKeys = slices.CompactFunc(w.streamedKeys, areEqual)
	w.pendingKeys = w.streamedKeys

	if err := w.emitRange(p.hashes); err != nil {
		return err
	}
	return w.emitPending(math.MaxUint64, nil)
}

// emitRange emits the keys with hashes in r, except the streamed keys.
func (w *scanWorker) emitRange(r hashRange) error {
	if err := w.load(r); err != nil {
		return err
	}
	return w.group(r)
}

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
