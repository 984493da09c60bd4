package logstore

import (
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/segment"
)

// scanBatch holds chunks, or keys, that a worker sends to the consumer of a scan.
type scanBatch struct {
	worker *scanWorker // worker to which the consumer returns the batch
	keys   []byte
	data   []byte
	items  []scanItem
}

// scanItem is a chunk or, in a scan of keys, a key.
type scanItem struct {
	offset   int64  // offset of the chunk in the value
	size     int64  // in a scan of keys, the size of the value
	keyEnd   uint32 // end of the key in scanBatch.keys; it begins at the previous item's keyEnd
	start, n uint32 // position of the chunk in scanBatch.data
	last     bool
}

const scanItemLen = 32

func (b *scanBatch) reset() { b.keys, b.data, b.items = b.keys[:0], b.data[:0], b.items[:0] }

func (b *scanBatch) size() int { return len(b.keys) + len(b.data) + scanItemLen*len(b.items) }

func (b *scanBatch) add(key []byte, item scanItem) {
	b.keys = append(b.keys, key...)
	item.keyEnd = uint32(len(b.keys))
	b.items = append(b.items, item)
}

// each calls use for each item until use returns false. Neighboring keys share an allocation, which
// must be small, because a caller that keeps one key retains the whole allocation.
func (b *scanBatch) each(use func(key string, item *scanItem) bool) bool {
	const maxShared = 1 << 10
	var keys string
	keysStart, keysEnd := uint32(0), uint32(0) // keys is b.keys[keysStart:keysEnd]
	itemStart := uint32(0)
	for i := range b.items {
		item := &b.items[i]
		if item.keyEnd > keysEnd {
			keysStart, keysEnd = itemStart, item.keyEnd
			for j := i + 1; j < len(b.items) && b.items[j].keyEnd-keysStart <= maxShared; j++ {
				keysEnd = b.items[j].keyEnd
			}
			keys = string(b.keys[keysStart:keysEnd])
		}
		if !use(keys[itemStart-keysStart:item.keyEnd-keysStart], item) {
			return false
		}
		itemStart = item.keyEnd
	}
	return true
}

const batchesPerWorker = 2

type scanWorker struct {
	sc     *scanner
	free   chan *scanBatch
	out    chan *scanBatch // batches of the current partition
	ledger Ledger
	reader segment.Reader
	arena  []byte
	grouping

	// streamedKeys contains the partition's keys with a hot run in some segment, sorted. They are
	// not loaded, but streamed one by one. pendingKeys contains those that are not emitted yet.
	streamedKeys, pendingKeys []segment.HotRun

	batch      *scanBatch
	key        []byte // current key
	offset     int64  // bytes of the key's value in earlier items
	chunkStart int    // start of the current chunk in batch.data
}

// reserve returns a batch with space for n bytes and one item. If the current batch has too little
// space, reserve sends it and returns an empty batch.
func (w *scanWorker) reserve(n int) (*scanBatch, error) {
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

// beginKey begins a key. addValue must follow for each piece of its value, and then endKey.
func (w *scanWorker) beginKey(key []byte) error {
	b, err := w.reserve(len(key) + 1)
	if err != nil {
		return err
	}
	w.key, w.offset, w.chunkStart = key, 0, len(b.data)
	return nil
}

// addValue appends p to the value of the current key. It ends a chunk only if more bytes follow,
// so that endKey can mark the last chunk.
func (w *scanWorker) addValue(p []byte) error {
	if b := w.batch; b.size()+len(p) <= w.sc.batchBytes {
		b.data = append(b.data, p...)
		return nil
	}
	for len(p) > 0 {
		free := w.sc.batchBytes - w.batch.size()
		if free <= 0 {
			w.endChunk(false)
			if err := w.send(); err != nil {
				return err
			}
			b, err := w.reserve(0)
			if err != nil {
				return err
			}
			w.chunkStart = len(b.data)
			continue
		}
		n := min(free, len(p))
		w.batch.data = append(w.batch.data, p[:n]...)
		p = p[n:]
	}
	return nil
}

func (w *scanWorker) endKey() { w.endChunk(true) }

func (w *scanWorker) endChunk(last bool) {
	n := len(w.batch.data) - w.chunkStart
	w.batch.add(w.key, scanItem{offset: w.offset, start: uint32(w.chunkStart), n: uint32(n), last: last})
	w.offset += int64(n)
	w.chunkStart = len(w.batch.data)
}

func (w *scanWorker) emitKeySize(key []byte, size int64) error {
	b, err := w.reserve(len(key))
	if err == nil {
		b.add(key, scanItem{size: size})
	}
	return err
}

// readBlob adds a large value to the ledger, and passes its blocks to use.
func (w *scanWorker) readBlob(key, encoded []byte, use func([]byte) error) error {
	return w.sc.v.files.addBlob(&w.ledger, key, encoded, func(b []byte) error {
		if err := canceled.Err(w.sc.ctx); err != nil {
			return err
		}
		return use(b)
	})
}
