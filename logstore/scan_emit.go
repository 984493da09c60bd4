package logstore

import "context"

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

// size is what the batch holds of keys and values.
func (b *scanBatch) size() int { return len(b.keys) + len(b.data) }

// maxItems bounds the keys of a batch, which may be as short as their values.
const maxItems = 32 << 10

// emitter fills batches.
type emitter struct {
	sc     *scanner
	cur    *scanBatch
	key    []byte
	offset int64 // how much of the key is in earlier items
	from   int   // where in cur.data the rest begins
}

// batch returns the batch that is being filled.
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

// send hands over what was filled.
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

// item adds a chunk, or a key, to the batch.
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

// end ends the key.
func (m *emitter) end() { m.cut(true) }

func (m *emitter) cut(last bool) {
	n := len(m.cur.data) - m.from
	m.cur.item(m.key, scanItem{offset: m.offset, at: m.from, n: n, last: last})
	m.offset += int64(n)
	m.from = len(m.cur.data)
}
