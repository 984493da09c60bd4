package shuffle

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/spill"
)

// TestLongRecordInManyChunks checks that a record in many chunks is copied into a batch only once, so that the other batches
// stay small.
func TestLongRecordInManyChunks(t *testing.T) {
	const size, chunkSize = 16 << 20, 64 << 10
	value := append(binary.AppendUvarint(nil, size), make([]byte, size)...)
	batches := 9
	sc := &scanner{s: &spool{engine: spill.Engine{}}, full: make(chan *batch, batches), empty: make(chan *batch, batches), batchSize: 1 << 20}
	sc.ctx, sc.cancel = context.WithCancel(t.Context())
	defer sc.cancel()
	all := map[*batch]bool{}
	for range batches {
		b := new(batch)
		all[b] = true
		sc.empty <- b
	}
	for offset := 0; offset < len(value); offset += chunkSize {
		part := value[offset:min(offset+chunkSize, len(value))]
		err := sc.addChunk(partd.Chunk{Key: "k", Offset: int64(offset), Data: part, Last: offset+chunkSize >= len(value)})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []chan *batch{sc.full, sc.continuation} {
			for len(c) > 0 {
				sc.empty <- <-c // a reader returns the batch
			}
		}
	}
	total := 0
	for b := range all {
		total += cap(b.data)
	}
	if total > 2*size {
		t.Errorf("the batches have %d bytes after a record of %d bytes, want at most twice the record", total, size)
	}
}
