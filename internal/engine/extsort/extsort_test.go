package extsort

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

func TestMain(m *testing.M) { procs.Main(m) }

type pair struct{ key, rec []byte }

// randomPairs returns n records, each with its number, with keys of the given kind.
func randomPairs(r *rand.Rand, n int, kind string) []pair {
	pairs := make([]pair, n)
	for i := range pairs {
		var k []byte
		switch kind {
		case "few":
			k = fmt.Appendf(nil, "k%d", r.IntN(10))
		case "zeros": // keys of all lengths that differ only by zeros at the end
			k = make([]byte, r.IntN(12))
		case "long":
			k = append(bytes.Repeat([]byte("long"), 4+r.IntN(3)), fmt.Sprint(r.IntN(50))...)
		case "uint":
			k = binary.BigEndian.AppendUint64(nil, r.Uint64())
		case "half":
			k = []byte("half")
			if r.IntN(2) == 0 {
				k = fmt.Appendf(nil, "%d", r.IntN(1000))
			}
		case "any":
			k = make([]byte, r.IntN(20))
			for j := range k {
				k[j] = byte(r.IntN(3)) * 127
			}
		case "ordered": // the keys are in order, except the last one
			k = fmt.Appendf(nil, "in order %012d", i/3)
			if i == n-1 {
				k = []byte("in order")
			}
		case "huge":
			k = append(bytes.Repeat([]byte("x"), r.IntN(3)*3000), byte(r.IntN(3)))
		}
		rec := binary.LittleEndian.AppendUint32(nil, uint32(i))
		pairs[i] = pair{k, append(rec, make([]byte, r.IntN(30))...)}
	}
	return pairs
}

var kinds = []string{"few", "zeros", "long", "uint", "half", "any", "ordered", "huge"}

func sortedPairs(pairs []pair) []pair {
	want := slices.Clone(pairs)
	slices.SortStableFunc(want, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	return want
}

// checkSorted compares the output of a sorter with want.
func checkSorted(t *testing.T, s *Sorter, want []pair) {
	t.Helper()
	i := 0
	for b, err := range s.Sorted() {
		must.Do(t, err)
		for j := range b.Len() {
			if i == len(want) {
				t.Fatalf("Sorted yields more than %d records", len(want))
			}
			if !bytes.Equal(b.Record(j), want[i].rec) {
				t.Fatalf("record %d is %.30q, want %.30q with key %.30q", i, b.Record(j), want[i].rec, want[i].key)
			}
			if s.opts.KeepKeys && !bytes.Equal(b.Key(j), want[i].key) {
				t.Fatalf("key %d is %.30q, want %.30q", i, b.Key(j), want[i].key)
			}
			if same := i > 0 && bytes.Equal(want[i].key, want[i-1].key); b.SameKey(j) != same {
				t.Fatalf("record %d, key %.30q: SameKey = %v", i, want[i].key, !same)
			}
			i++
		}
	}
	if i != len(want) {
		t.Fatalf("Sorted yields %d records, want %d", i, len(want))
	}
}

func newTestSorter(t *testing.T, o *Options) *Sorter {
	t.Helper()
	temp := must.Get(tempdir.New([]string{t.TempDir()}, nil))(t)
	o.Temp = temp
	s := must.Get(New(t.Context(), o))(t)
	t.Cleanup(func() { must.Do(t, errors.Join(s.Close(), temp.Close())) })
	return s
}

// writePairs adds records to a sorter with one writer.
func writePairs(t *testing.T, s *Sorter, pairs []pair) {
	t.Helper()
	w := must.Get(s.Writer())(t)
	for _, p := range pairs {
		must.Do(t, w.Add(p.key, p.rec))
	}
	must.Do(t, w.Close())
}

func TestSortIsStable(t *testing.T) {
	for _, kind := range kinds {
		for _, n := range []int{0, 1, 2, 30, 1000, 12_000} {
			for _, o := range []Options{{Memory: MinMemory}, {Memory: MinMemory, KeepKeys: true}, {Memory: 64 << 20}} {
				t.Run(fmt.Sprintf("%s/%d/%d", kind, n, o.Memory), func(t *testing.T) {
					if kind == "huge" {
						n = min(n, 1000)
					}
					pairs := randomPairs(rand.New(rand.NewPCG(uint64(n), 1)), n, kind)
					s := newTestSorter(t, &o)
					writePairs(t, s, pairs)
					checkSorted(t, s, sortedPairs(pairs))
					stats := s.Stats()
					if stats.Records != int64(n) {
						t.Errorf("Stats = %+v, want %d records", stats, n)
					}
					if spilled := stats.Runs > 0; o.Memory == MinMemory && n >= 12_000 && !spilled || o.Memory > MinMemory && spilled {
						t.Errorf("the sorter wrote %d runs with %d bytes of memory, want runs only with little memory", stats.Runs, o.Memory)
					}
				})
			}
		}
	}
}

// TestVeryLongKeys checks that keys are sorted even if their length does not fit in an entry.
func TestVeryLongKeys(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	s := newTestSorter(t, &Options{Memory: 32 << 20})
	var pairs []pair
	for i := range 100 {
		k := bytes.Repeat([]byte("x"), maxRefLen-5+r.IntN(10))
		if r.IntN(2) == 0 {
			k = append(k, byte(r.IntN(2)))
		}
		pairs = append(pairs, pair{k, []byte{byte(i)}})
	}
	writePairs(t, s, pairs)
	checkSorted(t, s, sortedPairs(pairs))
}

// TestMergeCopiesNoKeys checks that a merge does not copy the previous key of each run, because long keys would
// use memory that is not counted.
func TestMergeCopiesNoKeys(t *testing.T) {
	s := newTestSorter(t, &Options{Memory: 16 << 20, Threads: 1})
	w := must.Get(s.Writer())(t)
	const records, keyLen = 300, 300 << 10
	key := bytes.Repeat([]byte("k"), keyLen)
	for i := range records {
		binary.BigEndian.PutUint32(key[keyLen-4:], uint32(i*7919%records))
		must.Do(t, w.Add(key, nil))
	}
	must.Do(t, w.Close())
	cursors := must.Get(s.prepare())(t)
	if len(s.runs) < 10 {
		t.Fatalf("the sorter has %d runs, want at least 10", len(s.runs))
	}
	n := procs.Allocated(func() {
		m := must.Get(newMerger(cursors))(t)
		for i := range uint32(records + 1) {
			h, _, err := m.next()
			must.Do(t, err)
			if i == records && h != nil || i < records && (h == nil || binary.BigEndian.Uint32(h.key[keyLen-4:]) != i) {
				t.Fatalf("record %d of %d has the wrong key", i, records)
			}
		}
	})
	if n > 3*keyLen {
		t.Errorf("merging %d runs allocated %d bytes, want at most three times a key's length", len(s.runs), n)
	}
}

// TestManyWriters checks that no record is lost if there are more concurrent writers than slots, so that writers
// wait for each other. All keys are empty; in the first case, the records are empty as well.
func TestManyWriters(t *testing.T) {
	for _, size := range []int{0, 700} {
		s := newTestSorter(t, &Options{Memory: MinMemory, Threads: 1})
		var wg sync.WaitGroup
		const writers, each = 8, 3000
		for range writers {
			wg.Go(func() {
				w, err := s.Writer()
				if !must.Check(t, err) {
					return
				}
				rec := make([]byte, size)
				for range each {
					if !must.Check(t, w.Add(nil, rec)) {
						break
					}
				}
				must.Check(t, w.Close())
			})
		}
		wg.Wait()
		n := 0
		for b, err := range s.Sorted() {
			must.Do(t, err)
			n += b.Len()
		}
		if n != writers*each {
			t.Errorf("Sorted yields %d records, want %d", n, writers*each)
		}
	}
}

// TestBatches checks that batches are ordered by their numbers, whichever is written first.
func TestBatches(t *testing.T) {
	pairs := randomPairs(rand.New(rand.NewPCG(3, 4)), 50_000, "few")
	s := newTestSorter(t, &Options{Memory: 1 << 20})
	const each = 100
	next := make(chan int, len(pairs)/each)
	for i := range cap(next) {
		next <- i
	}
	close(next)
	must.Concurrently(4, func(int) {
		for n := range next {
			w, err := s.Batch(uint64(n))
			if !must.Check(t, err) {
				return
			}
			for _, p := range pairs[n*each : (n+1)*each] {
				must.Check(t, w.Add(p.key, p.rec))
			}
			must.Check(t, w.Close())
		}
	})
	checkSorted(t, s, sortedPairs(pairs))
}

// TestOpenRuns checks that a sorter keeps a bounded number of files open, however large its input.
func TestOpenRuns(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	s := newTestSorter(t, &Options{Memory: MinMemory, KeepKeys: true})
	limit := s.sizes.slot / s.sizes.block * maxSlots
	var pairs []pair
	w := must.Get(s.Writer())(t)
	open := 0
	for i := range 60_000 {
		rec := binary.LittleEndian.AppendUint32(nil, uint32(i))
		p := pair{fmt.Appendf(nil, "%d", r.IntN(500)), append(rec, make([]byte, r.IntN(400))...)}
		pairs = append(pairs, p)
		must.Do(t, w.Add(p.key, p.rec))
		s.Mu.Lock()
		if !s.merging {
			open = max(open, len(s.runs))
		}
		s.Mu.Unlock()
	}
	must.Do(t, w.Close())
	checkSorted(t, s, sortedPairs(pairs))
	t.Logf("%d runs were open; at most %d are merged early; %+v", open, limit, s.Stats())
	if runs := int(s.Stats().Runs); runs < limit+limit/2 {
		t.Errorf("the sorter wrote only %d runs, too few to test early merges", runs)
	}
	if open > limit+maxSlots {
		t.Errorf("%d runs were open at the same time, want at most %d", open, limit+maxSlots)
	}
}

// TestManyPasses checks that runs are merged in several passes if the buffers for all runs do not fit in memory.
func TestManyPasses(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s := newTestSorter(t, &Options{Memory: MinMemory, KeepKeys: true})
	var pairs []pair
	w := must.Get(s.Writer())(t)
	for i := range 60_000 {
		rec := binary.LittleEndian.AppendUint32(nil, uint32(i))
		p := pair{fmt.Appendf(nil, "%d", r.IntN(500)), append(rec, make([]byte, r.IntN(80))...)}
		if i%1000 == 0 {
			p.rec = append(p.rec, make([]byte, s.sizes.maxRecord-200)...)
		}
		pairs = append(pairs, p)
		must.Do(t, w.Add(p.key, p.rec))
	}
	must.Do(t, w.Close())
	checkSorted(t, s, sortedPairs(pairs))
	if stats := s.Stats(); stats.Passes < 3 {
		t.Errorf("Stats = %+v, want at least 3 passes", stats)
	}
}
