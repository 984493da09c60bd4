package logstore

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
)

// grouping is what a worker knows of the entries that it has loaded. Sorting
// references by hash was faster than a hash table at any number of keys, and gives
// the keys an order that depends on nothing else.
type grouping struct {
	loaded   []byte
	within   hashRange // of all that is loaded
	filtered bool      // entries of streamed keys were left out, and accounted for

	refs, spare []entryRef
	counts      [2][1 << maxDigit]uint32
}

// group hands over the keys of a range of hashes, of what is loaded.
func (w *scanWorker) group(r hashRange) error {
	before := w.ledger
	all, err := w.collect(r)
	if err != nil {
		return err
	}
	if !all && r.lo == r.hi {
		w.ledger = before
		return w.heavy(r.lo)
	}
	if cap(w.spare) < len(w.refs) {
		w.spare = make([]entryRef, cap(w.refs))
	}
	w.refs, w.spare = sortByHash(w.refs, w.spare[:len(w.refs)], r, &w.counts)
	if all {
		return w.emitRefs(w.refs)
	}
	// What was noted is a sample of what there is. Its median may be the hash of
	// most of it.
	w.ledger = before
	m := w.refs[len(w.refs)/2].hash
	if m > r.lo {
		if err := w.group(hashRange{r.lo, m - 1}); err != nil {
			return err
		}
	}
	if err := w.group(hashRange{m, m}); err != nil {
		return err
	}
	if m < r.hi {
		return w.group(hashRange{m + 1, r.hi})
	}
	return nil
}

// collect notes the entries of a range of hashes, and charges the ledger with those
// that are no blobs. It reports whether all could be noted.
func (w *scanWorker) collect(r hashRange) (all bool, err error) {
	data, refs, ledger, format := w.loaded, w.refs[:0], w.ledger, &w.sc.s.format
	defer func() { w.refs, w.ledger = refs, ledger }()
	for at := 0; at < len(data); {
		kind, keyAt, valueAt, end, ok := segment.ParseShort(data, at)
		if !ok {
			e, err := segment.ParseEntry(data[at:])
			if err != nil {
				return false, w.sc.s.corrupt(err)
			}
			kind, end = e.Kind, at+len(e.Raw)
			valueAt = end - len(e.Value)
			keyAt = valueAt - len(e.Key)
		}
		key := data[keyAt:valueAt]
		h := format.HashBytes(key)
		if !r.contains(h) {
			if !w.within.contains(h) {
				return false, w.sc.s.corrupt(wrongRange(key))
			}
			at = end
			continue
		}
		if len(refs) == w.sc.maxRefs {
			return false, nil
		}
		if kind != segment.KindBlob && !w.sc.keysOnly {
			hashed := at + 1
			for data[hashed-1] >= 0x80 { // the length of the value is not
				hashed++
			}
			ledger.AddEntry(kind, data[hashed:end], end-valueAt)
		}
		refs = append(refs, entryRef{h, uint32(keyAt)<<2 | uint32(kind), uint16(valueAt - keyAt), uint16(end - valueAt)})
		at = end
	}
	return true, nil
}

func wrongRange(key []byte) error {
	return fmt.Errorf("key %s is in a range that is not its own", partd.QuoteKey(string(key)))
}

// emitRefs hands over what references in order of hashes refer to.
func (w *scanWorker) emitRefs(refs []entryRef) error {
	for i := 0; i < len(refs); {
		hash, end := refs[i].hash, i
		size, kinds := 0, uint32(0)
		for ; end < len(refs) && refs[end].hash == hash; end++ {
			size += int(refs[end].valueLen)
			kinds |= refs[end].at & 3
		}
		simple := kinds == uint32(segment.KindAppend) && size <= w.sc.batchBytes &&
			(len(w.pending) == 0 || w.pending[0].Hash > hash)
		if simple {
			var err error
			if simple, err = w.emitAppends(refs[i:end], size); err != nil {
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

// emitAppends hands over the key of entries of which each was appended, if it is
// one key, which it reports.
func (w *scanWorker) emitAppends(refs []entryRef, size int) (one bool, err error) {
	data := w.loaded
	key := refs[0].key(data)
	b, err := w.room(len(key) + size)
	if err != nil {
		return false, err
	}
	at := len(b.data)
	if w.sc.keysOnly {
		size = 0
	}
	b.data = slices.Grow(b.data, size)
	out := b.data[at : at+size]
	total := 0
	for i := range refs {
		if string(refs[i].key(data)) != string(key) {
			return false, nil
		}
		total += int(refs[i].valueLen)
		if !w.sc.keysOnly {
			out = out[copy(out, refs[i].value(data)):]
		}
	}
	b.data = b.data[:at+size]
	b.item(key, scanItem{at: uint32(at), n: uint32(size), size: int64(total), last: true})
	return true, nil
}

// emitEqualHashes hands over keys of one hash in their order, streamed ones among
// them.
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

// emitKeyRefs hands over a key, whatever its entries are.
func (w *scanWorker) emitKeyRefs(key []byte, refs []entryRef) error {
	var size int64
	live := 0 // nothing is left of the entries before
	exists := false
	for i := range refs {
		kind := refs[i].kind()
		if kind == segment.KindSet || kind == segment.KindDelete {
			live, size = i, 0
		}
		if kind == segment.KindBlob {
			blob, err := segment.ParseBlobRef(refs[i].value(w.loaded))
			if err != nil {
				return w.sc.s.corrupt(err)
			}
			size += blob.Length
		} else {
			size += int64(refs[i].valueLen)
		}
		exists = kind != segment.KindDelete
	}
	if !exists || w.isStreamed(refs[0].hash, key) {
		live, exists = len(refs), false
	}
	if w.sc.keysOnly {
		if !exists {
			return nil
		}
		return w.emitKeySize(key, size)
	}
	// The ledger wants large values, too, that are not handed over from here.
	for i := range refs[:live] {
		if refs[i].kind() == segment.KindBlob {
			if err := w.readBlob(key, refs[i].value(w.loaded), ignore); err != nil {
				return err
			}
		}
	}
	if !exists {
		return nil
	}
	if err := w.begin(key); err != nil {
		return err
	}
	for i := range refs[live:] {
		ref := &refs[live+i]
		var err error
		if ref.kind() == segment.KindBlob {
			err = w.readBlob(key, ref.value(w.loaded), w.bytes)
		} else {
			err = w.bytes(ref.value(w.loaded))
		}
		if err != nil {
			return err
		}
	}
	w.end()
	return nil
}

func (w *scanWorker) emitKeySize(key []byte, size int64) error {
	b, err := w.room(len(key))
	if err == nil {
		b.item(key, scanItem{size: size})
	}
	return err
}

// readBlob charges the ledger with a large value of a key, and hands it to use.
func (w *scanWorker) readBlob(key, encoded []byte, use func([]byte) error) error {
	return w.sc.v.files.accountBlob(&w.ledger, key, encoded, func(b []byte) error {
		if err := canceled.Err(w.sc.ctx); err != nil {
			return err
		}
		return use(b)
	})
}
