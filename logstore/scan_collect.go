package logstore

import "github.com/go-partd/partd/internal/engine/segment"

// collect fills refs with the loaded entries with hashes in r, except those of streamed keys, and adds
// all except large values to the ledger. It returns false if there are more than maxRefs entries, or if
// loaded is truncated.
func (w *scanWorker) collect(r hashRange) (complete bool, err error) {
	var l entryLedger // a local variable, because the loop is faster with it
	w.refs, complete, err = w.appendRefs(w.refs[:0], &l, r)
	w.ledger.Add(l)
	return complete, err
}

func (w *scanWorker) appendRefs(refs []entryRef, l *entryLedger, r hashRange) (_ []entryRef, complete bool, err error) {
	data, headers, format := w.loaded, w.headers, w.sc.scans.format
	limit := len(data) // the end of the current block
	if len(headers) > 0 {
		limit = headers[0]
	}
	for off := 0; off < len(data); {
		if off == limit { // a block header
			off += segment.BlockHeaderLen
			headers, limit = headers[1:], len(data)
			if len(headers) > 0 {
				limit = headers[0]
			}
			continue
		}
		kind, keyStart, valueStart, end, ok := segment.ParseShort(data[:limit], off)
		if !ok {
			e, err := segment.ParseEntry(data[off:limit])
			if err == segment.ErrShortEntry && len(headers) > 0 {
				// Join the entry: swap its beginning with the header.
				copy(data[off+segment.BlockHeaderLen:], data[off:limit])
				headers[0], limit = off, off
				continue
			}
			if err == segment.ErrShortEntry && w.truncated {
				return refs, false, nil
			}
			if err != nil {
				return refs, false, w.sc.scans.corruptError(err)
			}
			kind, end = e.Kind, off+len(e.Raw)
			valueStart = end - len(e.Value)
			keyStart = valueStart - len(e.Key)
		}
		key := data[keyStart:valueStart]
		h := format.HashBytes(key)
		if !r.contains(h) {
			if !w.interval.contains(h) {
				return refs, false, w.sc.scans.corruptError(wrongRangeError(key))
			}
			off = end
			continue
		}
		if len(w.streamedKeys) > 0 && w.isStreamed(h, key) {
			off = end
			continue
		}
		if len(refs) == w.sc.maxRefs {
			return refs, false, nil
		}
		if w.sc.keysOnly || kind == segment.KindBlob {
			// not in the ledger
		} else if ok && kind == segment.KindAppend {
			l.AddAppend(data[keyStart-1:end], end-valueStart)
		} else {
			hashed := off + 1
			for data[hashed-1] >= 0x80 { // skip the length of the value
				hashed++
			}
			l.AddEntry(kind, data[hashed:end], end-valueStart)
		}
		refs = append(refs, entryRef{
			hash: h, keyAndKind: uint32(keyStart)<<2 | uint32(kind),
			keyLen: uint16(valueStart - keyStart), valueLen: uint16(end - valueStart),
		})
		off = end
	}
	return refs, !w.truncated, nil
}
