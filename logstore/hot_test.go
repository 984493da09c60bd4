package logstore

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestSpans checks that a segment does not depend on the memory for spans: with less of it, the sealer
// parses some parts again for each of their hot keys.
func TestSpans(t *testing.T) {
	for seed := range uint64(10) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s, err := openHooked("/s", &Options{Compression: Compression(seed % 2)}, hooks{fs: vfstest.NewMem(), tableBytes: 1 << 20, blobBytes: 4 << 10})
		must.Do(t, err)
		hotKeys, maxLen := 1+rnd.IntN(40), 20+rnd.IntN(300)
		for s.tables.active.size < 700<<10 {
			var entries []partd.Entry
			for range 100 {
				key := fmt.Sprint("hot", rnd.IntN(hotKeys))
				if rnd.IntN(3) == 0 {
					key = fmt.Sprint("other", rnd.IntN(5000))
				}
				entries = append(entries, partd.Entry{Key: key, Value: make([]byte, rnd.IntN(maxLen))})
			}
			entries[0].Value = make([]byte, 5<<10) // in a blob file
			key := entries[1].Key
			must.Do(t, s.Append(t.Context(), entries...))
			if rnd.IntN(20) == 0 {
				err = s.Delete(t.Context(), key)
			} else if rnd.IntN(20) == 0 {
				err = s.Set(t.Context(), key, []byte("new"))
			}
			must.Do(t, err)
		}
		f := must.Get(s.sealer.fileFor())(t)
		s.mu.Lock()
		seal := func() (b []byte, hot []segment.HotRun) {
			seg := must.Get(s.sealer.append(f, s.tables.active))(t)
			b = make([]byte, seg.End-seg.Start)
			must.Get(f.f.ReadAt(b, seg.Start))(t)
			return b, seg.Hot
		}
		s.sealer.spans = []byte{}
		want, hot := seal()
		if len(hot) == 0 {
			t.Fatalf("seed %d: no key is hot", seed)
		}
		s.sealer.spans = nil
		for _, size := range []int{-1, 200, 2000, 5000} {
			if size >= 0 {
				s.sealer.spans = make([]byte, 0, size)
			}
			if got, _ := seal(); !bytes.Equal(got, want) {
				t.Errorf("seed %d: with memory for %d bytes of spans, a segment with %d hot keys differs", seed, cap(s.sealer.spans), len(hot))
			}
			if size < 0 && cap(s.sealer.freeSpans) == cap(s.sealer.spans) {
				t.Errorf("seed %d: no spans were recorded", seed)
			}
		}
		s.mu.Unlock()
		must.Do(t, s.Flush(t.Context()))
		mustVerify(t, s)
		must.Do(t, s.Close())
	}
}

// TestSpanListFull checks that a list of spans does not grow beyond its capacity.
func TestSpanListFull(t *testing.T) {
	l := spanList{list: make([]byte, 0, 100)}
	for i := range uint32(1000) {
		l.add(i, 1)
	}
	l.end()
	if cap(l.list) != 100 || !l.full {
		t.Errorf("after 1000 spans, the list has a capacity of %d bytes, full %v, want 100, true", cap(l.list), l.full)
	}
}
