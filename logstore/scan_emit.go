package logstore

import (
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/segment"
)

type scanWorker struct {
	sc     *scanner
	free   chan *scanBatch
	out    chan *scanBatch // batches of the current partition
	ledger entryLedger
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
	if err != nil {
		return err
	}
	w.batch = nil
	return nil
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
	if err != nil {
		return err
	}
	b.add(key, scanItem{size: size})
	return nil
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
