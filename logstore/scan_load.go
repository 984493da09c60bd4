package logstore

import (
	"bytes"
	"io"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/offheap"
	"github.com/go-partd/partd/internal/engine/segment"
)

func (w *scanWorker) isStreamed(hash uint64, key []byte) bool {
	return segment.FindHot(w.streamedKeys, hash, key) != nil
}

// openSource returns the entries of source i (see view.sourceCount) in the source's ranges that
// overlap r. readRange is the interval of hashes in these ranges, which may be wider than r.
func (w *scanWorker) openSource(i int, r hashRange) (src segment.Source, readRange hashRange) {
	widen := func(bits uint8) {
		readRange.lo, readRange.hi = segment.HashBounds(segment.RangeIndex(r.lo, bits), segment.RangeIndex(r.hi, bits)+1, bits)
	}
	if i < len(w.sc.v.segments) {
		seg := w.sc.v.segments[i]
		widen(seg.Bits)
		return seg.openRanges(&w.reader, r.lo, r.hi), readRange
	}
	t := &w.sc.v.tables[i-len(w.sc.v.segments)]
	widen(t.table.bits)
	var blocks [][]byte
	for p := segment.RangeIndex(r.lo, t.table.bits); p <= segment.RangeIndex(r.hi, t.table.bits); p++ {
		blocks = append(blocks, t.table.blocksOf(t.parts[p-t.base])...)
	}
	return &segment.BlockList{Blocks: blocks}, readRange
}

// load loads the entries with hashes in r, but may omit entries of streamed keys. If the entries do not fit into
// memory, it loads the first of them and sets truncated.
func (w *scanWorker) load(r hashRange) error {
	if w.arena == nil {
		var err error
		w.arena, err = offheap.Allocate(int(w.sc.loadBytes))
		if err != nil {
			return err
		}
	}
	w.loaded, w.interval, w.truncated = w.arena[:0], r, false
	for i := range w.sc.v.sourceCount() {
		src, readRange := w.openSource(i, r)
		var err error
		// A segment's ranges contain few entries of streamed keys, and collect skips those entries.
		if readRange == r && (len(w.streamedKeys) == 0 || i < len(w.sc.v.segments)) {
			err = segment.EachBlock(src, w.loadBlock)
		} else {
			err = w.eachEntryIn(i, r, func(e *segment.Entry, hash uint64) error {
				if w.isStreamed(hash, e.Key) {
					return nil
				}
				return w.loadBlock(e.Raw)
			})
		}
		if err == errRangeTooLarge {
			w.truncated = true
			return nil
		}
		if err != nil {
			return w.sc.v.locateError(i, err)
		}
	}
	return nil
}

// loadBlock appends a block of encoded entries to loaded. An entry may continue in the next block.
// If the block does not fit, loadBlock appends its beginning and returns errRangeTooLarge.
func (w *scanWorker) loadBlock(b []byte) error {
	if err := canceled.Err(w.sc.ctx); err != nil {
		return err
	}
	if free := cap(w.loaded) - len(w.loaded); len(b) > free {
		w.loaded = append(w.loaded, b[:free]...)
		return errRangeTooLarge
	}
	w.loaded = append(w.loaded, b...)
	return nil
}

// eachEntryIn calls f for each of a source's entries whose hashes are in r.
func (w *scanWorker) eachEntryIn(source int, r hashRange, f func(e *segment.Entry, hash uint64) error) error {
	src, readRange := w.openSource(source, r)
	return segment.EachEntry(src, func(e *segment.Entry) error {
		if err := canceled.Err(w.sc.ctx); err != nil {
			return err
		}
		h := w.sc.scans.format.HashBytes(e.Key)
		if r.contains(h) {
			return f(e, h)
		}
		if !readRange.contains(h) {
			return w.sc.scans.corruptError(wrongRangeError(e.Key))
		}
		return nil
	})
}

// emitPending emits the streamed keys in pendingKeys up to the given hash and key, or all of them
// if key is nil.
func (w *scanWorker) emitPending(hash uint64, key []byte) error {
	last := segment.HotRun{Hash: hash, Key: key}
	for len(w.pendingKeys) > 0 && (key == nil || segment.CompareHot(w.pendingKeys[0], last) <= 0) {
		k := &w.pendingKeys[0]
		w.pendingKeys = w.pendingKeys[1:]
		if err := w.emitStream(k.Key, k.Hash); err != nil {
			return err
		}
	}
	return nil
}

// emitStream reads and emits a single key, whose entries are not loaded.
func (w *scanWorker) emitStream(key []byte, hash uint64) error {
	if w.sc.keysOnly {
		return w.emitSize(key, hash)
	}
	ks, err := w.sc.v.newKeyStream(key, hash, &w.ledger)
	if err != nil {
		return err
	}
	if err := w.beginKey(key); err != nil {
		return err
	}
	for {
		b, visible, err := ks.step()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = canceled.Err(w.sc.ctx)
		}
		if err == nil && visible {
			err = w.addValue(b)
		}
		if err != nil {
			return err
		}
	}
	if ks.exists {
		w.endKey()
	}
	return nil
}

// nextKey returns the smallest key with the given hash that is greater than after, or nil if no such
// key exists. If after is nil, it returns the smallest key with that hash. hasMore reports whether
// keys greater than next exist. nextKey ignores streamed keys, which emitStream emits.
func (w *scanWorker) nextKey(hash uint64, after []byte) (next []byte, hasMore bool, err error) {
	for i := range w.sc.v.sourceCount() {
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
			return nil, false, w.sc.v.locateError(i, err)
		}
	}
	return next, hasMore, nil
}

// emitSize emits a key with the size of its value. It does not read hot runs, because the footer of
// a segment records how many bytes of the value each of its hot runs contains.
func (w *scanWorker) emitSize(key []byte, hash uint64) error {
	size := keySize{deleted: true}
	for i := range w.sc.v.sourceCount() {
		src, hotRun := w.sc.v.keySource(i, hash, key, &w.reader)
		if hotRun != nil {
			if hotRun.Resets {
				size.valueLen = 0
			}
			size.valueLen += hotRun.Bytes
			size.deleted = hotRun.Deleted
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
			return w.sc.v.locateError(i, err)
		}
	}
	if size.deleted {
		return nil
	}
	return w.emitKeySize(key, size.valueLen)
}
