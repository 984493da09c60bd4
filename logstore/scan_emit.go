package logstore

import (
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/segment"
)

// scanBatch is a piece of a scan's result on its way to the consumer. It refers
// to nothing outside.
type scanBatch struct {
	worker *scanWorker // gets it back
	keys   []byte
	data   []byte
	items  []scanItem
}

// scanItem is a chunk, or, of a scan of keys, a key.
type scanItem struct {
	offset int64  // of the chunk in the value
	size   int64  // of the value, in a scan of keys
	keyEnd uint32 // in scanBatch.keys; it begins where that of the item before ends
	at, n  uint32 // of the chunk in scanBatch.data
	last   bool
}

const scanItemLen = 32

func (b *scanBatch) reset() { b.keys, b.data, b.items = b.keys[:0], b.data[:0], b.items[:0] }

func (b *scanBatch) size() int { return len(b.keys) + len(b.data) + scanItemLen*len(b.items) }

func (b *scanBatch) item(key []byte, it scanItem) {
	b.keys = append(b.keys, key...)
	it.keyEnd = uint32(len(b.keys))
	b.items = append(b.items, it)
}

// each calls use for the items until that returns false. Several keys share one
// allocation: not many, since who keeps one of them keeps all.
func (b *scanBatch) each(use func(key string, it *scanItem) bool) bool {
	const shared = 1 << 10
	var keys string
	from, end := uint32(0), uint32(0) // of keys, in b.keys
	start := uint32(0)
	for i := range b.items {
		it := &b.items[i]
		if it.keyEnd > end {
			from, end = start, it.keyEnd
			for j := i + 1; j < len(b.items) && b.items[j].keyEnd-from <= shared; j++ {
				end = b.items[j].keyEnd
			}
			keys = string(b.keys[from:end])
		}
		if !use(keys[start-from:it.keyEnd-from], it) {
			return false
		}
		start = it.keyEnd
	}
	return true
}

const batchesPerWorker = 2

// scanWorker reads and groups one partition after another.
type scanWorker struct {
	sc     *scanner
	free   chan *scanBatch
	out    chan *scanBatch // of the partition
	ledger Ledger
	reader segment.Reader
	arena  []byte
	grouping

	// Keys of the partition that have runs of their own in some segment, in order,
	// and those of them that were not handed over yet.
	streamed, pending []segment.HotRun

	batch  *scanBatch
	key    []byte // whose value is being handed over
	offset int64  // how much of it is in earlier items
	from   int    // where in batch.data the rest begins
}

// run reads partitions until there are no more.
func (w *scanWorker) run() {
	defer func() {
		if w.sc.running.Add(-1) == 0 {
			close(w.sc.partitions)
		}
	}()
	for {
		p := w.sc.take()
		if p == nil {
			return
		}
		w.out = p.batches
		if p.err = w.partition(p); p.err == nil {
			p.err = w.send()
		}
		close(p.batches)
		if p.err != nil {
			return
		}
	}
}

// room hands the batch over unless it can take n more bytes, of key and value, and
// one more item, and returns one that can.
func (w *scanWorker) room(n int) (*scanBatch, error) {
	if w.batch != nil && w.batch.size()+n+scanItemLen > w.sc.batchBytes {
		if err := w.send(); err != nil {
			return nil, err
		}
	}
	if w.batch == nil {
		var err error
		if w.batch, err = canceled.Receive(w.sc.ctx, w.free); err != nil {
			return nil, err
		}
	}
	return w.batch, nil
}

func (w *scanWorker) send() error {
	if w.batch == nil || len(w.batch.items) == 0 {
		return nil
	}
	err := canceled.Send(w.sc.ctx, w.out, w.batch)
	if err == nil {
		w.batch = nil
	}
	return err
}

// begin begins a key whose value comes in pieces.
func (w *scanWorker) begin(key []byte) error {
	b, err := w.room(len(key) + 1)
	if err != nil {
		return err
	}
	w.key, w.offset, w.from = key, 0, len(b.data)
	return nil
}

// bytes adds to the value of the key. A chunk is only cut off once more bytes
// follow, so that the last chunk is known.
func (w *scanWorker) bytes(p []byte) error {
	if b := w.batch; b.size()+len(p) <= w.sc.batchBytes {
		b.data = append(b.data, p...)
		return nil
	}
	for len(p) > 0 {
		room := w.sc.batchBytes - w.batch.size()
		if room <= 0 {
			w.cut(false)
			if err := w.send(); err != nil {
				return err
			}
			b, err := w.room(0)
			if err != nil {
				return err
			}
			w.from = len(b.data)
			continue
		}
		n := min(room, len(p))
		w.batch.data = append(w.batch.data, p[:n]...)
		p = p[n:]
	}
	return nil
}

func (w *scanWorker) end() { w.cut(true) }

func (w *scanWorker) cut(last bool) {
	n := len(w.batch.data) - w.from
	w.batch.item(w.key, scanItem{offset: w.offset, at: uint32(w.from), n: uint32(n), last: last})
	w.offset += int64(n)
	w.from = len(w.batch.data)
}
