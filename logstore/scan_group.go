package logstore

import (
	"bytes"
	"math"
	"slices"

	"github.com/go-partd/partd/internal/engine/segment"
)

// group emits the keys with hashes in r, which load must have loaded. If there are more entries than
// fit into memory, it divides the interval at the median hash of those that fit, and emits that
// hash separately, because many entries may have it.
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

// emitRefs emits the entries of refs, which must be sorted by hash.
func (w *scanWorker) emitRefs(refs []entryRef) error {
	for len(refs) > 0 {
		n := w.emitAppends(refs)
		if n == 0 {
			var err error
			if n, err = w.emitHashGroup(refs); err != nil {
				return err
			}
		}
		refs = refs[n:]
	}
	return nil
}

// emitHashGroup emits the entries at the start of refs that have the same hash, and returns their number.
func (w *scanWorker) emitHashGroup(refs []entryRef) (n int, err error) {
	size := 0
	for ; n < len(refs) && refs[n].hash == refs[0].hash; n++ {
		size += int(refs[n].valueLen)
	}
	if w.sc.keysOnly {
		size = 0
	}
	if size += int(refs[0].keyLen); size <= w.sc.batchBytes {
		if _, err := w.reserve(size); err != nil { // do not divide a small value
			return 0, err
		}
		if w.emitAppends(refs[:n]) == n {
			return n, nil
		}
	}
	return n, w.emitEqualHashes(refs[:n])
}

// emitAppends emits keys at the start of refs until the batch is full, or until a key that has other entries than appends, or
// the same hash as another key. It returns the number of emitted entries.
func (w *scanWorker) emitAppends(refs []entryRef) (n int) {
	b := w.batch
	if b == nil {
		return 0
	}
	data, keys, values, items, touched := w.loaded, b.keys, b.data, b.items, w.touched
	free := w.sc.batchBytes - b.size()
	for n < len(refs) {
		first := &refs[n]
		if len(w.pendingKeys) > 0 && w.pendingKeys[0].Hash <= first.hash {
			break
		}
		key := first.key(data)
		size, kinds, end := int(first.valueLen), first.keyAndKind, n+1
		for ; end < len(refs) && refs[end].hash == first.hash && string(refs[end].key(data)) == string(key); end++ {
			size += int(refs[end].valueLen)
			kinds |= refs[end].keyAndKind
		}
		item := scanItem{start: uint32(len(values)), n: uint32(size), size: int64(size), last: true}
		if w.sc.keysOnly {
			item.n = 0
		}
		free -= len(key) + int(item.n) + scanItemLen
		if free < 0 || segment.Kind(kinds&3) != segment.KindAppend || end < len(refs) && refs[end].hash == first.hash {
			break
		}
		// The entries are at random places. Touch later ones now, so that the processor fetches them meanwhile.
		touched += data[refs[min(end+touchAhead, len(refs)-1)].keyAndKind>>2]
		if !w.sc.keysOnly {
			for i := range refs[n:end] {
				values = append(values, refs[n+i].value(data)...)
			}
		}
		keys = append(keys, key...)
		item.keyEnd = uint32(len(keys))
		items = append(items, item)
		n = end
	}
	b.keys, b.data, b.items, w.touched = keys, values, items, touched
	return n
}

const touchAhead = 16 // number of entries by which emitAppends fetches memory in advance

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

// emitKeyRefs emits a key. refs must be all its entries, of any kind.
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
	// Read all large values, because the ledger covers even discarded ones.
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
	// Do not load a key that has a hot run in any segment, but stream it from all segments.
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
