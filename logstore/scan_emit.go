package logstore

import (
	"context"

	"github.com/go-partd/partd/internal/segment"
)

// scanBatch is a part of a scan's result on its way to the reader. It refers
// to nothing outside.
type scanBatch struct {
	keys  []byte
	data  []byte
	items []scanItem
}

// scanItem is a chunk, or, of a scan of keys, a key.
type scanItem struct {
	keyAt, keyLen int
	offset        int64 // of the chunk in the value
	at, n         int   // of the chunk in scanBatch.data
	size          int64 // of the value, in a scan of keys
	last          bool
}

func (b *scanBatch) key(it *scanItem) []byte { return b.keys[it.keyAt : it.keyAt+it.keyLen] }

func (b *scanBatch) reset() { b.keys, b.data, b.items = b.keys[:0], b.data[:0], b.items[:0] }

func (b *scanBatch) size() int { return len(b.keys) + len(b.data) }

// maxItems bounds the keys of a batch, which may be as short as their values.
const maxItems = 32 << 10

type emitter struct {
	sc     *scanner
	cur    *scanBatch
	key    []byte
	offset int64 // how much of the key is in earlier items
	from   int   // where in cur.data the rest begins
}

func (m *emitter) batch() (*scanBatch, error) {
	if m.cur == nil {
		select {
		case m.cur = <-m.sc.free:
		case <-m.sc.stop:
			return nil, errStopped
		case <-m.sc.ctx.Done():
			return nil, context.Cause(m.sc.ctx)
		}
	}
	return m.cur, nil
}

func (m *emitter) send() error {
	if m.cur == nil || len(m.cur.items) == 0 {
		return nil
	}
	select {
	case m.sc.out <- m.cur:
		m.cur = nil
		return nil
	case <-m.sc.stop:
		return errStopped
	case <-m.sc.ctx.Done():
		return context.Cause(m.sc.ctx)
	}
}

// room sends the batch unless it can take n more bytes, of key and value, and
// one more item.
func (m *emitter) room(n int) (*scanBatch, error) {
	if m.cur != nil && (m.cur.size()+n > m.sc.batchBytes || len(m.cur.items) >= maxItems) {
		if err := m.send(); err != nil {
			return nil, err
		}
	}
	return m.batch()
}

func (b *scanBatch) item(key []byte, it scanItem) {
	it.keyAt, it.keyLen = len(b.keys), len(key)
	b.keys = append(b.keys, key...)
	b.items = append(b.items, it)
}

// begin begins a key whose value comes in parts.
func (m *emitter) begin(key []byte) error {
	b, err := m.room(len(key) + 1)
	if err != nil {
		return err
	}
	m.key, m.offset, m.from = key, 0, len(b.data)
	return nil
}

// bytes adds to the value of the key. A chunk is only cut off once more bytes
// follow, so that the last chunk is known.
func (m *emitter) bytes(p []byte) error {
	for len(p) > 0 {
		room := m.sc.batchBytes - len(m.cur.data)
		if room <= 0 {
			m.cut(false)
			if err := m.send(); err != nil {
				return err
			}
			b, err := m.batch()
			if err != nil {
				return err
			}
			m.from = len(b.data)
			continue
		}
		n := min(room, len(p))
		m.cur.data = append(m.cur.data, p[:n]...)
		p = p[n:]
	}
	return nil
}

func (m *emitter) end() { m.cut(true) }

func (m *emitter) cut(last bool) {
	n := len(m.cur.data) - m.from
	m.cur.item(m.key, scanItem{offset: m.offset, at: m.from, n: n, last: last})
	m.offset += int64(n)
	m.from = len(m.cur.data)
}

// What a Scan notes of the entries that it groups, and how it goes through them again.

// parse returns the entry at an offset, and the place of its key.
func (sc *scanner) parse(data []byte, at int) (e segment.Entry, keyAt int, err error) {
	e, ok := segment.ParseShort(data[at:])
	if !ok {
		if e, err = segment.ParseEntry(data[at:]); err != nil {
			return e, 0, err
		}
	}
	return e, at + len(e.Raw) - len(e.Value) - len(e.Key), nil
}

func groupedEntry(e *segment.Entry, group uint32, keyAt int) grouped {
	return grouped{group, uint32(keyAt + len(e.Key)), uint32(len(e.Value)), e.Kind == segment.KindBlob}
}

// maxGrouped is how many entries are noted at once. What is noted of one, and of
// its key, may be a dozen times as long as the entry.
func (sc *scanner) maxGrouped() int { return int(sc.limit / 128) }

// each calls f for all entries, many at a time, in order; from is the place of
// the first of them.
func (sc *scanner) each(data []byte, f func(from int, list []grouped) error) error {
	if err := f(0, sc.entries); err != nil {
		return err
	}
	var buf [128]grouped
	for at, from := sc.rest, len(sc.entries); at < len(data); {
		list := buf[:0]
		for at < len(data) && len(list) < len(buf) {
			e, keyAt, err := sc.parse(data, at)
			if err != nil {
				return err
			}
			list = append(list, groupedEntry(&e, sc.find(data, e.Key, uint32(keyAt), sc.s.format.HashBytes(e.Key)), keyAt))
			at += len(e.Raw)
		}
		if err := f(from, list); err != nil {
			return err
		}
		from += len(list)
	}
	return nil
}
