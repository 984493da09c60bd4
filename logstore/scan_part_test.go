package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// scanned is the result of a scan: keys in order, with their values.
type scanned struct {
	keys   []string
	values map[string][]byte
}

// collectParts reads chunks until the end or the first error, which must be the last item.
func collectParts(chunks func(func(partd.Chunk, error) bool)) (got scanned, err error) {
	got.values = map[string][]byte{}
	open, failed := false, error(nil)
	for c, err := range chunks {
		if failed != nil {
			return got, fmt.Errorf("the scan yielded an item after the error %w", failed)
		}
		if err != nil {
			failed = err
			continue
		}
		if !open {
			if _, ok := got.values[c.Key]; ok || c.Offset != 0 {
				return got, fmt.Errorf("key %q begins at offset %d, or was yielded before", c.Key, c.Offset)
			}
			got.keys = append(got.keys, c.Key)
			got.values[c.Key] = nil
		}
		if last := got.keys[len(got.keys)-1]; last != c.Key || c.Offset != int64(len(got.values[last])) {
			return got, fmt.Errorf("a chunk of key %q at offset %d follows %d bytes of key %q", c.Key, c.Offset, len(got.values[last]), last)
		}
		got.values[c.Key] = append(got.values[c.Key], c.Data...)
		open = !c.Last
	}
	if failed == nil && open {
		return got, errors.New("the last key is incomplete")
	}
	return got, failed
}

func (a scanned) equals(b scanned) bool {
	return slices.Equal(a.keys, b.keys) && maps.EqualFunc(a.values, b.values, bytes.Equal)
}

// scanHooks returns hooks for small limits. With them, a small store has many ranges, segments,
// large values and hot keys, and Scans read it in many partitions.
func scanHooks(mem *vfstest.Mem) hooks {
	return hooks{
		fs: mem, tableBytes: 128 << 10, blobBytes: 3000, readBytes: 64 << 10, batchBytes: 2 << 10, walStep: 4096, minMerge: -1,
	}
}

// TestPartsEqualScan checks that the order of a Scan does not depend on the number of workers, the
// size of memory, sealing, merging or reopening. All parts together must yield the same as the Scan.
func TestPartsEqualScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := scanHooks(vfstest.NewMem())
		if rapid.Bool().Draw(t, "equal hashes") {
			h.hash = func(randomKey string) uint64 { return uint64(randomKey[3])<<59 | uint64(len(randomKey))<<54 }
		}
		s, err := openHooked("/s", nil, h)
		must.Do(t, err)
		defer func() { must.Do(t, s.Close()) }()
		model := map[string][]byte{}
		reopen := func(h hooks) {
			must.Do(t, s.Close())
			s = openWith(t, "/s", nil, h)
		}
		randomKey := rapid.Custom(func(t *rapid.T) string {
			n := rapid.IntRange(0, 60).Draw(t, "key")
			return fmt.Sprint("key", n*n*n*n)
		})
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			k := randomKey.Draw(t, "k")
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				err = s.Delete(t.Context(), k)
				delete(model, k)
			case 1:
				err = s.Set(t.Context(), k, []byte("set"))
				model[k] = []byte("set")
			case 2:
				err = s.Flush(t.Context())
			case 3:
				reopen(h)
			default:
				n := rapid.SampledFrom([]int{1, 10, 100, 1000, 2999, 3000, 9000}).Draw(t, "n")
				for range rapid.IntRange(1, 12).Draw(t, "times") {
					v := bytes.Repeat([]byte{byte(len(model))}, n)
					err = errors.Join(err, s.Append(t.Context(), partd.Entry{Key: k, Value: v}))
					model[k] = append(model[k], v...)
				}
			}
			must.Do(t, err)
		}
		first, err := collectParts(s.Scan(t.Context()))
		if err != nil || !maps.EqualFunc(first.values, model, bytes.Equal) {
			t.Fatalf("Scan yielded wrong contents: %d keys, want %d; error %v", len(first.keys), len(model), err)
		}
		for _, workers := range []int{1, 2, 8} {
			h.scanWorkers, h.batchBytes, h.readBytes = workers, 1<<9*workers, 8<<10*int64(workers*workers)
			if workers == 2 { // reopening starts a merge
				h.minMerge = 2
			}
			reopen(h)
			second, err := collectParts(s.Scan(t.Context()))
			if err != nil || !second.equals(first) {
				t.Fatalf("%d workers: Scan yielded %d keys, want %d in the same order; error %v", workers, len(second.keys), len(first.keys), err)
			}
			var listed []string
			for k, err := range s.Keys(t.Context()) {
				if err != nil || k.Size != int64(len(model[k.Key])) {
					t.Fatalf("Keys yielded %+v, %v, want %d bytes", k, err, len(model[k.Key]))
				}
				listed = append(listed, k.Key)
			}
			if !slices.Equal(listed, first.keys) {
				t.Fatalf("%d workers: Keys and Scan have different orders", workers)
			}
			checkParts(t, s, first, rapid.SampledFrom([]int{1, 2, 3, 7, 1024, partd.MaxParts}).Draw(t, "parts"))
		}
	})
}

// checkParts compares the parts with a complete scan. If there are many parts, it reads only the parts
// that contain keys, and a few others.
func checkParts(t *rapid.T, s *Store, fullScan scanned, parts int) {
	t.Helper()
	var chosen []int
	if parts <= 7 {
		for p := range parts {
			chosen = append(chosen, p)
		}
	} else {
		chosen = append(chosen, 0, parts/2, parts-1)
		for _, k := range fullScan.keys {
			hash := s.format.Hash(k)
			p := sort.Search(parts, func(p int) bool { return hash <= partHashes(p, parts).hi })
			chosen = append(chosen, p)
		}
		slices.Sort(chosen)
		chosen = slices.Compact(chosen)
	}
	joined := scanned{values: map[string][]byte{}}
	for _, p := range chosen {
		got := must.Get(collectParts(s.ScanPart(t.Context(), p, parts)))(t)
		joined.keys = append(joined.keys, got.keys...)
		maps.Copy(joined.values, got.values)
	}
	if !joined.equals(fullScan) {
		t.Fatalf("%d parts have %d keys, want %d in the same order", parts, len(joined.keys), len(fullScan.keys))
	}
}

// rangesStore returns a store with keys in many ranges, one hot key, and large values.
func rangesStore(t *testing.T, h hooks) (s *Store, want map[string][]byte) {
	t.Helper()
	s = must.Get(openHooked("/s", nil, h))(t)
	want = map[string][]byte{}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 600 {
		k := fmt.Sprint("key", rnd.IntN(150))
		if i%3 == 0 {
			k = "hot"
		}
		v := bytes.Repeat([]byte(fmt.Sprintf("%03d", i)), 1+rnd.IntN(200))
		if i%50 == 0 {
			v = bytes.Repeat(v, 1+h.blobBytes/len(v))
		}
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: k, Value: v}))
		want[k] = append(want[k], v...)
	}
	must.Do(t, s.Flush(t.Context()))
	return s, want
}

// TestConcurrentParts checks that concurrent scans of all parts stay within the memory limit of one
// scan, and together yield everything.
func TestConcurrentParts(t *testing.T) {
	h := scanHooks(vfstest.NewMem())
	s, want := rangesStore(t, h)
	var mu sync.Mutex
	var wg sync.WaitGroup
	got := map[string][]byte{}
	for p := range 4 {
		wg.Go(func() {
			part, err := collectParts(s.ScanPart(context.Background(), p, 4))
			if used := s.scans.memory.Load(); used > 2*s.scans.readBytes {
				t.Errorf("scans have reserved %d bytes, want at most %d", used, 2*s.scans.readBytes)
			}
			mu.Lock()
			defer mu.Unlock()
			must.Check(t, err)
			maps.Copy(got, part.values)
		})
	}
	wg.Wait()
	if !maps.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("the parts have wrong contents: %d keys, want %d", len(got), len(want))
	}
	if used := s.scans.memory.Load(); used != 0 {
		t.Errorf("%d bytes of scan memory were not freed", used)
	}
	must.Do(t, s.Close())
}
