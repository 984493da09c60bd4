package shuffle

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestReadAheadOfTinyGroups checks that the data read ahead for many goroutines stays within the memory for reading,
// even if each group has only a few bytes and its bookkeeping takes more.
func TestReadAheadOfTinyGroups(t *testing.T) {
	o := &Options[uint32]{Memory: 64 << 20, TempDirs: []string{t.TempDir()}}
	g := must.Get(NewGrouper(t.Context(), func(v uint32) uint32 { return v }, o))(t)
	defer g.Close()
	must.Do(t, FeedAll(t.Context(), g, 1, func(yield func(uint32, error) bool) {
		for v := range uint32(1_000_000) {
			if !yield(v, nil) {
				return
			}
		}
	}))
	must.Do(t, g.keyed.spool.startReading())
	const readers = 32
	sc := g.keyed.spool.scan(readers)
	defer sc.close()
	readAhead := 0
	for range 2*readers + 1 { // receives all batches, because none is given back
		b := <-sc.full
		readAhead += cap(b.data) + cap(b.blocks)*blockOffsetsSize
	}
	if readAhead > int(g.keyed.spool.engine.Memory) {
		t.Errorf("the scanner's batches use %d bytes, want at most %d", readAhead, g.keyed.spool.engine.Memory)
	}
}

// TestLongRecordInManyChunks checks that a record in many chunks is copied into a batch only once, so that the other
// batches stay small.
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
		must.Do(t, sc.addChunk(partd.Chunk{Key: "k", Offset: int64(offset), Data: part, Last: offset+chunkSize >= len(value)}))
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

// TestCancelWithinGroup checks that the scanner still knows the channel of a group's rest after it was canceled at the
// moment when the rest could be sent: it must close the channel, because a reader waits on it.
func TestCancelWithinGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	canceled := 0
	for range 100 {
		rest := make(chan *batch, 3)
		sc := &scanner{ctx: ctx, full: make(chan *batch, 3), continuation: rest, current: &batch{blocks: []blockOffsets{{last: true}}}}
		if sc.send() == nil {
			continue
		}
		canceled++
		if sc.continuation != rest {
			t.Fatal("the channel of the group's rest is lost")
		}
	}
	if canceled == 0 {
		t.Error("no send was canceled")
	}
}
