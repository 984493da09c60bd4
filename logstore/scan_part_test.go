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
	"github.com/go-partd/partd/internal/vfs/vfstest"
)

// scanned is what a scan yields: keys in order, with their values.
type scanned struct {
	keys   []string
	values map[string][]byte
}

// drain reads chunks to the end, or to the first error, after which there must be
// nothing more.
func drain(chunks func(func(partd.Chunk, error) bool)) (got scanned, err error) {
	got.values = map[string][]byte{}
	open, failed := false, error(nil)
	for c, err := range chunks {
		if failed != nil {
			return got, fmt.Errorf("something follows the error %w", failed)
		}
		if err != nil {
			failed = err
			continue
		}
		if !open {
			if _, ok := got.values[c.Key]; ok || c.Offset != 0 {
				return got, fmt.Errorf("key %q begins at %d, or twice", c.Key, c.Offset)
			}
			got.keys = append(got.keys, c.Key)
			got.values[c.Key] = nil
		}
		if last := got.keys[len(got.keys)-1]; last != c.Key || c.Offset != int64(len(got.values[last])) {
			return got, fmt.Errorf("key %q at %d after %q", c.Key, c.Offset, last)
		}
		got.values[c.Key] = append(got.values[c.Key], c.Data...)
		open = !c.Last
	}
	if failed == nil && open {
		return got, errors.New("the last key has no end")
	}
	return got, failed
}

func (a scanned) equal(b scanned) bool {
	return slices.Equal(a.keys, b.keys) && maps.EqualFunc(a.values, b.values, bytes.Equal)
}

// scanHooks make stores of many ranges, segments, large values and hot keys of
// little data, which Scans read in many partitions.
func scanHooks(mem *vfstest.Mem) hooks {
	return hooks{
		fs: mem, tableBytes: 128 << 10, blobBytes: 3000, readBytes: 64 << 10, batchBytes: 2 << 10, walStep: 4096, minMerge: -1,
	}
}

// Whatever a store holds, a Scan yields it in an order that neither the number of
// workers, nor the size of memory, nor sealing, merging and opening change; and the
// parts, one after the other, are the Scan.
func TestScanIsItsParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := scanHooks(vfstest.NewMem())
		if rapid.Bool().Draw(t, "equal hashes") {
			h.hash = func(key string) uint64 { return uint64(key[3])<<59 | uint64(len(key))<<54 }
		}
		s, err := open("/s", nil, h)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		model := map[string][]byte{}
		reopen := func(h hooks) {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = open("/s", nil, h); err != nil {
				t.Fatal(err)
			}
		}
		key := rapid.Custom(func(t *rapid.T) string {
			n := rapid.IntRange(0, 60).Draw(t, "key")
			return fmt.Sprint("key", n*n*n*n)
		})
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			k := key.Draw(t, "k")
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
			if err != nil {
				t.Fatal(err)
			}
		}
		first, err := drain(s.Scan(t.Context()))
		if err != nil || !maps.EqualFunc(first.values, model, bytes.Equal) {
			t.Fatalf("%d keys instead of %d, %v", len(first.keys), len(model), err)
		}
		for _, workers := range []int{1, 2, 8} {
			h.scanWorkers, h.batchBytes, h.readBytes = workers, 1<<9*workers, 8<<10*int64(workers*workers)
			if workers == 2 { // merging begins when the store is opened
				h.minMerge = 2
			}
			reopen(h)
			again, err := drain(s.Scan(t.Context()))
			if err != nil || !again.equal(first) {
				t.Fatalf("%d workers: %d keys instead of %d, or in another order, %v", workers, len(again.keys), len(first.keys), err)
			}
			var listed []string
			for k, err := range s.Keys(t.Context()) {
				if err != nil || k.Size != int64(len(model[k.Key])) {
					t.Fatal(k, err)
				}
				listed = append(listed, k.Key)
			}
			if !slices.Equal(listed, first.keys) {
				t.Fatalf("%d workers: Keys has another order than Scan", workers)
			}
			checkParts(t, s, first, rapid.SampledFrom([]int{1, 2, 3, 7, 1024, partd.MaxParts}).Draw(t, "parts"))
		}
	})
}

// checkParts compares parts with the whole. Of many parts, it reads those that
// have keys, and a few of the others.
func checkParts(t *rapid.T, s *Store, whole scanned, parts int) {
	t.Helper()
	var chosen []int
	if parts <= 7 {
		for p := range parts {
			chosen = append(chosen, p)
		}
	} else {
		chosen = append(chosen, 0, parts/2, parts-1)
		for _, k := range whole.keys {
			hash := s.format.Hash(k)
			p := sort.Search(parts, func(p int) bool { return hash <= partHashes(p, parts).hi })
			chosen = append(chosen, p)
		}
		slices.Sort(chosen)
		chosen = slices.Compact(chosen)
	}
	all := scanned{values: map[string][]byte{}}
	for _, p := range chosen {
		got, err := drain(s.ScanPart(t.Context(), p, parts))
		if err != nil {
			t.Fatal(err)
		}
		all.keys = append(all.keys, got.keys...)
		maps.Copy(all.values, got.values)
	}
	if !all.equal(whole) {
		t.Fatalf("the %d parts have %d keys instead of %d, or in another order", parts, len(all.keys), len(whole.keys))
	}
}

// rangesStore has keys in many ranges, one of them hot, and large values.
func rangesStore(t *testing.T, h hooks) (s *Store, want map[string][]byte) {
	t.Helper()
	s, err := open("/s", nil, h)
	if err != nil {
		t.Fatal(err)
	}
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
		if err := s.Append(t.Context(), partd.Entry{Key: k, Value: v}); err != nil {
			t.Fatal(err)
		}
		want[k] = append(want[k], v...)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, want
}

// The ledgers of parts add up to that of the store.
func TestPartLedgers(t *testing.T) {
	h := scanHooks(vfstest.NewMem())
	h.scanWorkers = 3
	s, _ := rangesStore(t, h)
	defer s.Close()
	for _, parts := range []int{1, 2, 3, 7, 64} {
		var sum Ledger
		for p := range parts {
			v, err := s.scanView(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			sc := s.newScanner(t.Context(), v, scanRequest{hashes: partHashes(p, parts), parts: parts})
			for part := range sc.partitions {
				for b := range part.batches {
					b.reset()
					b.worker.free <- b
				}
				if part.err != nil {
					t.Fatal(part.err)
				}
			}
			if err := sc.verify(); err != nil {
				t.Fatal(err)
			}
			sum.Add(sc.ledger())
			if err := sc.close(); err != nil {
				t.Fatal(err)
			}
		}
		var whole Ledger
		for _, g := range s.segments.list {
			whole.Add(g.ledger)
		}
		if err := whole.Diff(sum); err != nil || sum.Pieces == 0 {
			t.Errorf("%d parts: %v", parts, err)
		}
	}
}

// Four readers at once each get their part, within one limit of memory.
func TestPartsSideBySide(t *testing.T) {
	h := scanHooks(vfstest.NewMem())
	s, want := rangesStore(t, h)
	var mu sync.Mutex
	var wg sync.WaitGroup
	got := map[string][]byte{}
	for p := range 4 {
		wg.Go(func() {
			part, err := drain(s.ScanPart(context.Background(), p, 4))
			if used := s.scanMemory.Load(); used > 2*s.readBytes {
				t.Errorf("%d bytes are in use", used)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			maps.Copy(got, part.values)
		})
	}
	wg.Wait()
	if !maps.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("%d keys instead of %d", len(got), len(want))
	}
	if used := s.scanMemory.Load(); used != 0 {
		t.Errorf("%d bytes were not given back", used)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
