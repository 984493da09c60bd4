package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/segment"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// mergeHooks make most segments small, and start a merge at four small segments.
var mergeHooks = hooks{tableBytes: 64 << 10, blobBytes: 600, readBytes: 16 << 10, walStep: 4096, minMerge: 4, smallLen: 1 << 20}

func waitMerged(t *testing.T, s *Store) {
	t.Helper()
	for range 10_000 {
		s.mu.Lock()
		running := s.background.running
		s.mu.Unlock()
		if !running {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the merge did not end within 10 seconds")
}

// TestMergeContent checks that merges do not change the content. The data has hot keys, large
// values and resets. Merges write one or several segments, with and without compression.
func TestMergeContent(t *testing.T) {
	for _, c := range []Compression{None, S2, Zstd} {
		for _, maxBytes := range []int64{0, 4 << 10, 40 << 10} {
			for seed := range uint64(1 + len(c.String())%2) {
				mem := vfstest.NewMem()
				h := mergeHooks
				h.fs, h.mergeBytes = mem, maxBytes
				s, err := openHooked("/s", &Options{Compression: c}, h)
				must.Do(t, err)
				want := map[string][]byte{}
				rnd := rand.New(rand.NewPCG(seed, 9))
				for round := range 40 {
					for range rnd.IntN(60) {
						k := fmt.Sprint(rnd.IntN(400))
						if rnd.IntN(3) == 0 {
							k = "hot"
						}
						v := bytes.Repeat(fmt.Appendf(nil, "%d ", rnd.IntN(1000)), 1+rnd.IntN(60))
						if rnd.IntN(60) == 0 {
							v = bytes.Repeat(v, 8)
						}
						switch x := rnd.IntN(100); {
						case x == 0:
							delete(want, k)
							err = s.Delete(t.Context(), k)
						case x == 1:
							want[k] = bytes.Clone(v)
							err = s.Set(t.Context(), k, v)
						default:
							want[k] = append(want[k], v...)
							err = s.Append(t.Context(), partd.Entry{Key: k, Value: v})
						}
						must.Do(t, err)
					}
					must.Do(t, s.Flush(t.Context()))
					if round%20 == 19 {
						must.Do(t, s.Close())
						s = openWith(t, "/s", &Options{Compression: c}, h)
					}
				}
				waitMerged(t, s)
				if n := s.SegmentCount(); maxBytes == 0 && n > 3*3+1 {
					t.Errorf("the store has %d segments after merging, want at most 10", n)
				}
				wantMerged(t, s, want)
				must.Do(t, s.Close())
				s = openWith(t, "/s", nil, h)
				wantMerged(t, s, want)
				must.Do(t, s.Close())
			}
		}
	}
}

// mergeNow merges the segments if there are at least minCount small ones.
func mergeNow(t *testing.T, s *Store, minCount int) {
	t.Helper()
	s.mu.Lock()
	s.merging.minCount = minCount
	s.background.startIfDue()
	s.mu.Unlock()
	waitMerged(t, s)
}

// wantMerged checks the store's contents and verifies its files.
func wantMerged(t *testing.T, s *Store, want map[string][]byte) {
	t.Helper()
	wantContents(t, s, want)
	mustVerify(t, s)
}

// manySessions opens and closes a store n times, so that it has n tiny segments, and returns the content.
func manySessions(t *testing.T, fs vfs.FS, n int) map[string][]byte {
	t.Helper()
	want := map[string][]byte{}
	h := mergeHooks
	h.fs, h.minMerge = fs, -1
	for i := range n {
		s := openWith(t, "/s", nil, h)
		for k := range 3 {
			key, v := fmt.Sprint("k", k), fmt.Appendf(nil, "%d,", i)
			want[key] = append(want[key], v...)
			must.Do(t, s.Append(t.Context(), partd.Entry{Key: key, Value: v}))
		}
		must.Do(t, s.Close())
	}
	return want
}

// TestMergeShortSessions opens and closes a store many times, too quickly for background merges.
// The store must neither accumulate segments nor rewrite them repeatedly.
func TestMergeShortSessions(t *testing.T) {
	const sessions = 300
	var written int64
	var mu sync.Mutex
	fs := vfstest.Inject(vfstest.NewMem(), func(op vfstest.Op, name string) error {
		if op == vfstest.OpWrite && strings.Contains(name, "seg-") {
			mu.Lock()
			written++
			mu.Unlock()
		}
		return nil
	})
	h := mergeHooks
	h.fs, h.minMerge, h.smallLen = fs, 0, 0
	for i := range sessions {
		s := openWith(t, "/s", nil, h)
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: fmt.Appendf(nil, "%d,", i)}))
		if n := s.SegmentCount(); n > 2*minMerge {
			t.Fatalf("the store has %d segments after it was opened %d times, want at most %d", n, i, 2*minMerge)
		}
		must.Do(t, s.Close())
	}
	if limit := int64(sessions*3/2 + 20); written > limit {
		t.Errorf("the store made %d writes to segment files, want at most %d", written, limit)
	}
}

// TestMergeForGets checks that Gets of single keys cause a merge of full segments once they have
// read more bytes than the merge costs.
func TestMergeForGets(t *testing.T) {
	h := mergeHooks
	h.fs, h.minMerge, h.smallLen = vfstest.NewMem(), 0, 0
	s := openWith(t, "/s", nil, h)
	defer s.Close()
	want := map[string][]byte{}
	for i := range 20_000 {
		k, v := fmt.Sprint(i%500), fmt.Appendf(nil, "%099d,", i)
		want[k] = append(want[k], v...)
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: k, Value: v}))
	}
	must.Do(t, s.Flush(t.Context()))
	before := s.SegmentCount()
	gets := 0
	for ; gets < 5000 && s.SegmentCount() >= 4; gets++ {
		must.Get(s.Get(t.Context(), fmt.Sprint(gets%500)))(t)
		waitMerged(t, s)
	}
	if before < 20 || s.SegmentCount() >= 4 || gets < 2 {
		t.Errorf("the store had %d segments, and after %d Gets %d, want at least 20, and then fewer than 4", before, gets, s.SegmentCount())
	}
	wantMerged(t, s, want)
}

// TestNoMergeOfFullSegments checks that segments of full tables are not merged, even if they compress well.
func TestNoMergeOfFullSegments(t *testing.T) {
	for _, c := range []Compression{None, S2, Zstd} {
		for _, keys := range []int{1, 1000} {
			mem := vfstest.NewMem()
			s := openWith(t, "/s", &Options{Compression: c}, hooks{fs: mem, tableBytes: 64 << 10})
			rnd := rand.New(rand.NewPCG(1, 2))
			for i := range 2500 {
				v := bytes.Repeat(fmt.Append(nil, rnd.Uint64(), rnd.Uint64(), rnd.Uint64(), rnd.Uint64()), 50)
				must.Do(t, s.Append(t.Context(), partd.Entry{Key: fmt.Sprint(i % keys), Value: v}))
			}
			waitMerged(t, s)
			if n := s.SegmentCount(); n < minMerge {
				t.Errorf("%v, %d keys: the store has %d segments, want at least %d", c, keys, n, minMerge)
			}
			if _, err := mem.Info("/s/seg-00000002"); !errors.Is(err, os.ErrNotExist) || s.Close() != nil {
				t.Errorf("%v, %d keys: a merge created a second file, or Close failed: %v", c, keys, err)
			}
		}
	}
}

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
