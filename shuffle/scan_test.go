package shuffle

import "testing"

// TestReadAheadOfTinyGroups checks that the data read ahead for many goroutines stays within the memory for reading,
// even if each group has only a few bytes and its bookkeeping takes more.
func TestReadAheadOfTinyGroups(t *testing.T) {
	o := &Options[uint32]{Memory: 64 << 20, TempDirs: []string{t.TempDir()}}
	g, err := NewGrouper(t.Context(), func(v uint32) uint32 { return v }, o)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	err = FeedAll(t.Context(), g, 1, func(yield func(uint32, error) bool) {
		for v := range uint32(1_000_000) {
			if !yield(v, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.spool.startReading(); err != nil {
		t.Fatal(err)
	}
	const readers = 32
	sc := g.spool.scan(readers)
	defer sc.close()
	readAhead := 0
	for range 2*readers + 1 { // receives all batches, because none is given back
		b := <-sc.full
		readAhead += cap(b.data) + cap(b.blocks)*blockOffsetsSize
	}
	if readAhead > int(g.spool.engine.Memory) {
		t.Errorf("the scanner's batches use %d bytes, want at most %d", readAhead, g.spool.engine.Memory)
	}
}
