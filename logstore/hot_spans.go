package logstore

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/go-partd/partd/internal/engine/segment"
)

// A span is a sequence of entries of one key in a part of a table. While hotKeys counts the bytes of
// each key, it records spans. Then the sealer can copy each key's entries without parsing the part
// again for each hot key.

// spanList is an encoded list of a part's spans: uvarint(id of the key) uvarint(length in bytes).
type spanList struct {
	list []byte
	full bool // a span did not fit into the capacity of list
	id   uint32
	n    int // length of the last span, which is not yet in list
}

// add adds an entry of n bytes.
func (l *spanList) add(id uint32, n int) {
	if id != l.id {
		l.end()
		l.id = id
	}
	l.n += n
}

// end completes the last span.
func (l *spanList) end() {
	l.full = l.full || cap(l.list)-len(l.list) < binary.MaxVarintLen32+binary.MaxVarintLen64
	if !l.full {
		l.list = binary.AppendUvarint(binary.AppendUvarint(l.list, uint64(l.id)), uint64(l.n))
	}
	l.n = 0
}

// hotPart describes the hot keys of a part.
type hotPart struct {
	part  part
	runs  []segment.HotRun // largest first
	ids   []uint32         // the key ids of runs
	spans []byte           // encoded spans of the whole part, or nil if they take too much memory
}

// write writes the entries of run i or, if i is -1, the entries of all keys that are not hot.
func (h *hotPart) write(w *segment.Writer, t *table, i int) error {
	if h.spans == nil {
		return segment.EachEntry(t.source(h.part), func(e *segment.Entry) error {
			if slices.IndexFunc(h.runs, func(r segment.HotRun) bool { return bytes.Equal(r.Key, e.Key) }) != i {
				return nil
			}
			return w.Write(e.Raw)
		})
	}
	start, end := 0, 0 // the bytes of the part to write next
	for b := h.spans; len(b) > 0; {
		id, idLen := binary.Uvarint(b)
		n, nLen := binary.Uvarint(b[idLen:])
		b = b[idLen+nLen:]
		if slices.Index(h.ids, uint32(id)) != i {
			if err := t.writeBytes(w, h.part, start, end); err != nil {
				return err
			}
			start = end + int(n)
		}
		end += int(n)
	}
	return t.writeBytes(w, h.part, start, end)
}

// writeBytes writes the bytes from start to end of a part.
func (t *table) writeBytes(w *segment.Writer, p part, start, end int) error {
	for start < end {
		off := start & (t.chunkSize - 1)
		chunk := t.arena[int(p.chunks[start/t.chunkSize])*t.chunkSize:][off:t.chunkSize]
		chunk = chunk[:min(len(chunk), end-start)]
		if err := w.Write(chunk); err != nil {
			return err
		}
		start += len(chunk)
	}
	return nil
}
