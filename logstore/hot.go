package logstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/go-partd/partd/internal/engine/segment"
)

// A hot key uses a large share of a table. A segment stores the key's entries in a separate
// run, so that they can be read without other keys' entries.

const (
	maxHotPerPart = 16
	hotSample     = 8 << 10 // number of bytes at the start of a part that hotKeys examines first
)

// keySize sums up the effect of one key's entries.
type keySize struct {
	key        string
	id         uint32
	encodedLen int64 // encoded length of the entries
	valueLen   int64 // length that the value would have if the key had only these entries
	resets     bool  // the entries include a Set or Delete, which discards earlier entries
	deleted    bool  // the key does not exist after the entries
}

func (k *keySize) add(e *segment.Entry) error {
	n, err := e.ValueLen()
	if err != nil {
		return err
	}
	if e.Kind == segment.KindSet || e.Kind == segment.KindDelete {
		k.valueLen, k.resets = 0, true
	}
	k.deleted = e.Kind == segment.KindDelete
	k.valueLen += n
	k.encodedLen += int64(len(e.Raw))
	return nil
}

// keySizes is the result of countKeys.
type keySizes struct {
	keys  []keySize // by id, that is, in the order of their first entries
	total int64     // number of bytes read
	spans spanList
}

var errLimitReached = errors.New("reached the byte limit")

// countKeys adds up the sizes of each key's entries in src until it has read limit bytes. It reads
// src with r to reuse r's memory. It appends the encoded spans of the entries to spanBuf. If spanBuf
// has too little capacity, countKeys does not grow it, but sets the result's spans.full.
func countKeys(r *segment.EntryReader, src segment.Source, limit int64, spanBuf []byte) (*keySizes, error) {
	s := &keySizes{spans: spanList{list: spanBuf}}
	ids := map[string]uint32{}
	id := uint32(0)
	err := r.Each(src, func(e *segment.Entry) error {
		if s.total >= limit {
			return errLimitReached
		}
		// An entry of a hot key usually follows another entry of the same key, so the map lookup
		// can be skipped.
		if len(s.keys) == 0 || string(e.Key) != s.keys[id].key {
			keyID, ok := ids[string(e.Key)]
			if !ok {
				keyID = uint32(len(s.keys))
				s.keys = append(s.keys, keySize{key: string(e.Key), id: keyID})
				ids[s.keys[keyID].key] = keyID
			}
			id = keyID
		}
		s.total += int64(len(e.Raw))
		s.spans.add(id, len(e.Raw))
		return s.keys[id].add(e)
	})
	s.spans.end()
	if err == errLimitReached {
		err = nil
	}
	return s, err
}

// A span is a sequence of entries of one key in a part of a table. While countKeys counts the bytes
// of each key, it records spans. Then the sealer can copy each key's entries without parsing the
// part again for each hot key.

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

// hotPart describes the hot keys in a part.
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
