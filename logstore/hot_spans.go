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

// hotPart describes the hot keys of a part.
type hotPart struct {
	part  part
	runs  []segment.HotRun // largest first
	ids   []uint32         // the key ids of runs
	spans []byte           // encoded spans of the whole part, or nil if they take too much memory
}

// write writes the entries of run i or, if i is -1, the entries of all keys that are not hot.
func (h *hotPart) write(w *segment.Writer, t *memtable, i int) error {
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
