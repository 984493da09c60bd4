package logstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/segment"
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

// The hashes of parts follow each other, without a gap, and are about as many.
func TestPartHashes(t *testing.T) {
	for _, parts := range []int{1, 2, 3, 7, 1000, 1024, 65_535, partd.MaxParts} {
		next := uint64(0)
		for p := range parts {
			r := partHashes(p, parts)
			if r.lo != next || r.hi < r.lo || parts > 1 && (r.hi-r.lo)/2 > 1<<63/uint64(parts) {
				t.Fatalf("part %d of %d has hashes %x to %x, after %x", p, parts, r.lo, r.hi, next)
			}
			next = r.hi + 1
		}
		if next != 0 {
			t.Fatalf("%d parts end at %x", parts, next)
		}
	}
	s := mustOpen(t, t.TempDir(), nil)
	for _, p := range [][2]int{{-1, 3}, {3, 3}, {0, 0}, {0, partd.MaxParts + 1}} {
		if got, err := drain(s.ScanPart(t.Context(), p[0], p[1])); err == nil || len(got.keys) > 0 {
			t.Errorf("part %d of %d: %v, %v", p[0], p[1], got.keys, err)
		}
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

// Wherever a reader stops, panics or cancels, nothing goes on, and what was
// yielded is how the Scan begins.
func TestScanStops(t *testing.T) {
	for _, workers := range []int{1, 2, 8} {
		h := scanHooks(vfstest.NewMem())
		h.scanWorkers = workers
		s, _ := rangesStore(t, h)
		before := runtime.NumGoroutine()
		for stop := range 40 {
			n := 0
			for _, err := range s.Scan(t.Context()) {
				if n++; n > stop {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			func() {
				defer func() { _ = recover() }()
				for range s.Scan(t.Context()) {
					panic("the caller's")
				}
			}()
			ctx, cancel := context.WithCancel(t.Context())
			n = 0
			var last error
			for _, err := range s.Scan(ctx) {
				if n++; n == stop+1 {
					cancel()
				}
				last = err
			}
			cancel()
			if !errors.Is(last, context.Canceled) {
				t.Fatalf("%d workers, cancelled at chunk %d of %d: %v", workers, stop, n, last)
			}
			for tries := 0; runtime.NumGoroutine() > before; tries++ { // the last may be about to end
				if tries == 1000 {
					t.Fatalf("%d workers: %d goroutines, %d before", workers, runtime.NumGoroutine(), before)
				}
				time.Sleep(time.Millisecond)
			}
		}
		if used := s.scanMemory.Load(); used != 0 {
			t.Errorf("%d bytes were not given back", used)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A read that fails anywhere is an error, after data that is right.
func TestScanReadFails(t *testing.T) {
	for _, workers := range []int{1, 2, 8} {
		mem := vfstest.NewMem()
		h := scanHooks(mem)
		h.scanWorkers = workers
		broken := errors.New("broken")
		var mu sync.Mutex
		left := -1
		h.fs = vfstest.Inject(mem, func(op vfstest.Op, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			if op != vfstest.OpRead || left < 0 {
				return nil
			}
			if left--; left < 0 {
				return broken
			}
			return nil
		})
		s, _ := rangesStore(t, h)
		whole, err := drain(s.Scan(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		failures := 0
		for at := 0; ; at++ {
			mu.Lock()
			left = at
			mu.Unlock()
			got, err := drain(s.Scan(t.Context()))
			if err == nil {
				if !got.equal(whole) {
					t.Fatal("data is missing, without an error")
				}
				break
			}
			failures++
			if !errors.Is(err, broken) {
				t.Fatal(err)
			}
			for i, k := range got.keys {
				if k != whole.keys[i] || !bytes.HasPrefix(whole.values[k], got.values[k]) {
					t.Fatalf("%d workers, read %d: key %q is not as it was", workers, at, k)
				}
			}
		}
		if failures < 20 {
			t.Errorf("only %d reads failed", failures)
		}
		mu.Lock()
		left = -1
		mu.Unlock()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Keys of one hash that are more, or have more entries, than may be loaded or noted
// are read one at a time, and streamed ones among them once.
func TestScanHeavyHash(t *testing.T) {
	h := scanHooks(vfstest.NewMem())
	h.readBytes, h.tableBytes = 8<<10, 256<<10
	h.hash = func(key string) uint64 {
		if key[0] == 'x' {
			return 1 << 40
		}
		return uint64(key[len(key)-1]) << 36
	}
	s, err := open("/s", nil, h)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want := map[string][]byte{}
	add := func(key string, n, times int) {
		var entries []partd.Entry
		for range times {
			v := bytes.Repeat([]byte{key[len(key)-1]}, n)
			entries = append(entries, partd.Entry{Key: key, Value: v})
			want[key] = append(want[key], v...)
		}
		if err := s.Append(t.Context(), entries...); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		got, err := drain(s.Scan(t.Context()))
		if err != nil || !maps.EqualFunc(got.values, want, bytes.Equal) {
			t.Fatalf("%d keys instead of %d, %v", len(got.keys), len(want), err)
		}
		n := 0
		for k, err := range s.Keys(t.Context()) {
			if err != nil || k.Key != got.keys[n] || k.Size != int64(len(want[k.Key])) {
				t.Fatal(k, err)
			}
			n++
		}
		if n != len(want) {
			t.Fatalf("%d keys instead of %d", n, len(want))
		}
	}
	for i := range 60 {
		add(fmt.Sprint("other", i), 200, 1)
		if i%10 == 0 {
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	add("x tiny", 1, 300)
	add("x hot", 200, 1)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	add("x hot", 290, 20)
	check()
	if len(s.segments.list[len(s.segments.list)-1].Hot) != 1 {
		t.Fatal("a key should be hot")
	}
	for i := range 200 {
		add(fmt.Sprintf("x%0100d", i), 1, 2)
	}
	check()
}

// Drop and Close do not take away what a Scan reads.
func TestScanOutlivesStore(t *testing.T) {
	h := scanHooks(vfstest.NewMem())
	h.scanWorkers = 4
	s, want := rangesStore(t, h)
	dropped := false
	got, err := drain(func(yield func(partd.Chunk, error) bool) {
		for c, err := range s.ScanPart(t.Context(), 0, 1) {
			if !dropped {
				dropped = true
				if err := errors.Join(s.Drop(t.Context()), s.Close()); err != nil {
					t.Error(err)
				}
			}
			if !yield(c, err) {
				return
			}
		}
	})
	if err != nil || !maps.EqualFunc(got.values, want, bytes.Equal) {
		t.Fatalf("%d keys instead of %d, %v", len(got.keys), len(want), err)
	}
}

// A flipped bit is found by a Scan, by the part that holds it, and by no other; so
// is, without checksums of blocks, a key that came to be in another's range.
func TestDamageInParts(t *testing.T) {
	const parts = 4
	mem := vfstest.NewMem()
	h := scanHooks(mem)
	h.scanWorkers = 2
	s, _ := rangesStore(t, h)
	defer s.Close()
	if len(s.segments.list) == 0 || s.segments.list[0].Bits < 2 || len(s.segments.list[0].Hot) == 0 {
		t.Fatal("the store is too simple")
	}
	bad := func(chunks func(func(partd.Chunk, error) bool)) bool {
		t.Helper()
		_, err := drain(chunks)
		var corrupt *partd.CorruptError
		if err != nil && !errors.As(err, &corrupt) {
			t.Fatal(err)
		}
		return err != nil
	}
	tried, moved := 0, 0
	for _, g := range s.segments.list {
		end := int64(g.Off[len(g.Off)-1])
		for i := range g.Hot {
			end = max(end, int64(g.Hot[i].Off)+int64(g.Hot[i].Len))
		}
		for at := int64(0); at < end; at += 331 {
			r, _ := slices.BinarySearch(g.Off, uint32(at)+1)
			var lo, hi uint64
			if r-1 < len(g.Off)-1 {
				lo, hi = segment.Bounds(r-1, r, g.Bits)
			}
			for i := range g.Hot {
				if k := &g.Hot[i]; at >= int64(k.Off) && at < int64(k.Off)+int64(k.Len) {
					lo, hi = k.Hash, k.Hash
				}
			}
			change(t, mem, g.file.Path, g.Start+at, func(b byte) byte { return b ^ 4 })
			if !bad(s.Scan(t.Context())) {
				t.Fatalf("a Scan does not find the change at %d", at)
			}
			for p := range parts {
				ph := partHashes(p, parts)
				if holds := ph.lo <= hi && ph.hi >= lo; bad(s.ScanPart(t.Context(), p, parts)) != holds {
					t.Fatalf("part %d, hashes %x to %x: an error should be %v for a change at %d, of %x to %x", p, ph.lo, ph.hi, holds, at, lo, hi)
				}
			}
			s.format.NoCRC = true
			for p := range parts {
				if _, err := drain(s.ScanPart(t.Context(), p, parts)); err != nil && strings.Contains(err.Error(), "not its own") {
					moved++
				}
			}
			s.format.NoCRC = false
			change(t, mem, g.file.Path, g.Start+at, func(b byte) byte { return b ^ 4 })
			tried++
		}
	}
	if tried < 100 || moved == 0 {
		t.Errorf("%d places were damaged, of which %d were found without checksums", tried, moved)
	}
}

// Without checksums of blocks, a key that was changed is still where it was: in its
// new hash's range, or found to be in another's.
func TestKeyInWrongRange(t *testing.T) {
	mem := vfstest.NewMem()
	s, want := rangesStore(t, scanHooks(mem))
	defer s.Close()
	s.format.NoCRC = true
	whole := 0
	for _, v := range want {
		whole += len(v)
	}
	g := s.segments.list[0]
	ranges := int(g.Off[len(g.Off)-1])
	b := make([]byte, int(g.Hot[0].Off+g.Hot[0].Len)) // the one run follows
	if _, err := g.file.ReadAt(b, g.Start); err != nil || string(g.Hot[0].Key) != "hot" {
		t.Fatal(err)
	}
	refused := 0
	for at := range b {
		if hot := at >= ranges; !hot && !bytes.HasPrefix(b[at:], []byte("key")) || hot && !bytes.HasPrefix(b[at:], []byte("hot")) {
			continue
		}
		change(t, mem, g.file.Path, g.Start+int64(at), func(b byte) byte { return b ^ 1 })
		var errs error
		found := 0
		for p := range 4 {
			got, err := drain(s.ScanPart(t.Context(), p, 4))
			errs = errors.Join(errs, err)
			for _, v := range got.values {
				found += len(v)
			}
		}
		switch {
		case errs != nil && strings.Contains(errs.Error(), "not its own"):
			refused++
		case errs != nil || found != whole || at >= ranges:
			t.Fatalf("the key at %d is lost: %d bytes instead of %d, %v", at, found, whole, errs)
		}
		change(t, mem, g.file.Path, g.Start+int64(at), func(b byte) byte { return b ^ 1 })
	}
	if refused == 0 {
		t.Error("no key came to be in a range of another's")
	}
}

func TestSortByHash(t *testing.T) {
	var counts [2][1 << maxDigit]uint32
	rapid.Check(t, func(t *rapid.T) {
		r := hashRange{rapid.Uint64().Draw(t, "lo"), rapid.Uint64().Draw(t, "hi")}
		if r.lo > r.hi {
			r.lo, r.hi = r.hi, r.lo
		}
		hash := rapid.Uint64Range(r.lo, r.hi)
		few := rapid.SliceOfN(hash, 1, 5).Draw(t, "few")
		refs := rapid.SliceOf(rapid.OneOf(hash, rapid.SampledFrom(few), rapid.Uint64Range(r.lo, min(r.hi, r.lo|0xff)))).Draw(t, "hashes")
		var got []entryRef
		for i, h := range refs {
			got = append(got, entryRef{hash: h, at: uint32(i)})
		}
		want := slices.Clone(got)
		slices.SortStableFunc(want, func(a, b entryRef) int { return cmp.Compare(a.hash, b.hash) })
		if got, _ = sortByHash(got, make([]entryRef, len(got)), r, &counts); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}
