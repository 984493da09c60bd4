package logstore

import (
	"slices"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/engine/segment"
)

type scanWorker struct {
	sc     *scanner
	free   chan *scanBatch
	out    chan *scanBatch // batches of the current partition
	ledger segment.Ledger
	reader segment.Reader
	blob   segment.BlobReader
	piece  ledger.Piece
	arena  []byte
	grouping

	// streamedKeys contains the partition's keys with a hot run in any segment, sorted. They are
	// streamed one by one instead of being loaded. pendingKeys are those not emitted yet.
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
		w.batch, err = canceled.Receive(w.sc.ctx, w.free)
		if err != nil {
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

// beginKey begins a key. The caller must then call addValue for each piece of its value and finally
// call endKey.
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
			if err := w.nextBatch(); err != nil {
				return err
			}
			continue
		}
		n := min(free, len(p))
		w.batch.data = append(w.batch.data, p[:n]...)
		p = p[n:]
	}
	return nil
}

// nextBatch ends the current chunk and continues the key in an empty batch.
func (w *scanWorker) nextBatch() error {
	if len(w.batch.data) > w.chunkStart {
		w.endChunk(false)
	}
	if err := w.send(); err != nil {
		return err
	}
	b, err := w.reserve(0)
	if err == nil {
		w.chunkStart = len(b.data)
	}
	return err
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

// skipBlob reads a large value only to add it to the ledger.
func (w *scanWorker) skipBlob(key, encoded []byte) error {
	return w.sc.v.files.addBlob(&w.ledger, key, encoded, func([]byte) error { return canceled.Err(w.sc.ctx) })
}

// addBlob appends a large value to the value of the current key and adds it to the ledger. It reads
// the blocks directly into batches.
func (w *scanWorker) addBlob(encoded []byte) error {
	if err := w.sc.v.files.openBlob(encoded, &w.blob); err != nil {
		return err
	}
	w.piece.Start(string(w.key))
	for n := w.blob.NextLen(); n > 0; n = w.blob.NextLen() {
		if err := canceled.Err(w.sc.ctx); err != nil {
			return err
		}
		if w.batch.size()+n > w.sc.batchBytes && len(w.batch.data) > 0 {
			if err := w.nextBatch(); err != nil {
				return err
			}
		}
		b := w.batch
		b.data = slices.Grow(b.data, n)
		block, err := w.blob.NextInto(b.data[len(b.data):cap(b.data)])
		if err != nil {
			return err
		}
		w.piece.Add(block)
		b.data = b.data[:len(b.data)+n]
	}
	w.ledger.AddPiece(&w.piece)
	return nil
}
