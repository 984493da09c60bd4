package shuffle_test

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/shuffle"
)

// rec is a record with its number in the input.
type rec struct {
	Small int16
	Text  string
	N     int
}

// randomRecs returns more records than fit in the minimum memory. Half of them have one key.
func randomRecs(seed uint64, n int) []rec {
	r := rand.New(rand.NewPCG(seed, 1))
	recs := make([]rec, n)
	for i := range recs {
		recs[i] = rec{int16(r.IntN(200) - 100), fmt.Sprint("text ", r.IntN(5000)), i}
		if i%2 == 0 {
			recs[i].Text = "half"
		}
	}
	return recs
}

const manyRecords = 150_000

// minMemory returns options with the minimum memory and a temporary directory that must be empty at the end.
func minMemory[T any](t *testing.T) *shuffle.Options[T] {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { checkEmpty(t, dir) })
	return &shuffle.Options[T]{Memory: shuffle.MinMemory, Threads: 2, TempDirs: []string{dir}}
}

func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	for _, e := range must.Get(os.ReadDir(dir))(t) {
		t.Errorf("%s was not removed from the directory for temporary data", e.Name())
	}
}

// feeder has the methods that all operations share.
type feeder[T any] interface {
	Feed() (*shuffle.Feed[T], error)
	Stats() shuffle.Stats
	Close() error
}

// feedInParts feeds records from several goroutines, one part each, in order.
func feedInParts[T any](t *testing.T, feed func() (*shuffle.Feed[T], error), all []T, parts int) {
	t.Helper()
	var wg sync.WaitGroup
	for part := range slices.Chunk(all, len(all)/parts+1) {
		wg.Go(func() {
			f, err := feed()
			if !must.Check(t, err) {
				return
			}
			for _, v := range part {
				if !must.Check(t, f.Add(v)) {
					break
				}
			}
			must.Check(t, f.Close())
			if err := f.Add(part[0]); err == nil {
				t.Error("Add() to a closed feed returned no error")
			}
		})
	}
	wg.Wait()
}

func mustCollect[T any](t *testing.T, seq iter.Seq2[T, error]) []T {
	t.Helper()
	return must.Get(shuffle.Collect(seq))(t)
}

var (
	byTextAndSmall = shuffle.By(
		shuffle.Desc(func(r rec) string { return r.Text }),
		shuffle.Asc(func(r rec) int16 { return r.Small }),
	)
	text = func(r rec) string { return r.Text }
)

func compareRecs(a, b rec) int {
	return cmp.Or(strings.Compare(b.Text, a.Text), cmp.Compare(a.Small, b.Small))
}

func TestGroupBy(t *testing.T) {
	in := randomRecs(3, manyRecords)
	want := make(map[string][]rec)
	for _, r := range in {
		want[r.Text] = append(want[r.Text], r)
	}
	for g, err := range shuffle.GroupBy(t.Context(), shuffle.Values(in...), text, minMemory[rec](t)) {
		must.Do(t, err)
		if got := mustCollect(t, g.Values); !slices.Equal(got, want[g.Key]) {
			t.Fatalf("group %q has wrong content: %d records, want %d", g.Key, len(got), len(want[g.Key]))
		}
		delete(want, g.Key)
	}
	if len(want) > 0 {
		t.Errorf("%d groups are missing", len(want))
	}
}

// TestGroupsReadInPart checks that a group need not be read to its end, but cannot be read after the next group was
// requested.
func TestGroupsReadInPart(t *testing.T) {
	in := randomRecs(4, manyRecords)
	g := must.Get(shuffle.NewGrouper(t.Context(), text, minMemory[rec](t)))(t)
	feedInParts(t, g.Feed, in, 3)
	var previousValues iter.Seq2[rec, error]
	groups := make(map[string]bool)
	for group, err := range g.Groups() {
		must.Do(t, err)
		if previousValues != nil {
			if _, err := shuffle.Collect(previousValues); err == nil {
				t.Fatal("reading the values of an earlier group returned no error")
			}
		}
		previousValues = group.Values
		groups[group.Key] = true
		n := 0
		for r, err := range group.Values {
			if err != nil || r.Text != group.Key {
				t.Fatalf("group %q yields %v, error %v; want a record of this group", group.Key, r, err)
			}
			if n++; n == 3 {
				break
			}
		}
	}
	if st := g.Stats(); st.Records != manyRecords || st.Groups != int64(len(groups)) {
		t.Errorf("Stats() = %+v, want %d records and %d groups", st, manyRecords, len(groups))
	}
	must.Do(t, g.Close())
}

// TestGroupsAfterTheLoop checks that reading a group's values after the loop is an error, even for the last group.
func TestGroupsAfterTheLoop(t *testing.T) {
	var groups []shuffle.Group[string, rec]
	for g, err := range shuffle.GroupBy(t.Context(), shuffle.Values(randomRecs(1, 1000)...), text, minMemory[rec](t)) {
		must.Do(t, err)
		groups = append(groups, g)
	}
	for i, g := range groups {
		if values, err := shuffle.Collect(g.Values); err == nil {
			t.Errorf("group %d of %d: read %d values without an error", i+1, len(groups), len(values))
		}
	}
}

func TestPartition(t *testing.T) {
	in := randomRecs(9, manyRecords)
	p := must.Get(shuffle.Partition(t.Context(), shuffle.Values(in...), 7, text, minMemory[rec](t)))(t)
	partitionOf := make(map[string]int)
	all := 0
	for i := range 7 {
		last := -1
		for _, r := range mustCollect(t, p.Records(i)) {
			if n, ok := partitionOf[r.Text]; ok && n != i {
				t.Fatalf("key %q is in the partitions %d and %d", r.Text, n, i)
			}
			partitionOf[r.Text] = i
			if r.N <= last || in[r.N] != r {
				t.Fatalf("partition %d contains %v, want only unchanged records in order", i, r)
			}
			last = r.N
			all++
		}
	}
	if all != manyRecords {
		t.Errorf("the partitions have %d records, want %d", all, manyRecords)
	}
	must.Do(t, p.Verify())
	if _, err := shuffle.Collect(p.Records(7)); err == nil {
		t.Error("Records(7) of 7 partitions returned no error")
	}
	must.Do(t, p.Close())
}

func TestPartitionBy(t *testing.T) {
	in := randomRecs(10, 5000)
	p := must.Get(shuffle.NewPartitionsBy(t.Context(), text, minMemory[rec](t)))(t)
	feedInParts(t, p.Feed, in, 1)
	want := make(map[string][]rec)
	for _, r := range in {
		want[r.Text] = append(want[r.Text], r)
	}
	keys := mustCollect(t, p.Keys())
	if len(keys) != len(want) {
		t.Errorf("Keys() yields %d keys, want %d", len(keys), len(want))
	}
	for _, k := range keys {
		if got := mustCollect(t, p.Records(k)); !slices.Equal(got, want[k]) {
			t.Fatalf("Records(%q) = %v, want %v", k, got, want[k])
		}
	}
	if got := mustCollect(t, p.Records("none such")); got != nil {
		t.Errorf("Records() of an unknown key = %v, want none", got)
	}
	must.Do(t, p.Verify())
	must.Do(t, p.Close())
}

// costStore records the size of the largest batch. It calculates sizes as a log store does.
type costStore struct {
	*partd.Dict
	maxCost, appends int
}

func (s *costStore) Append(ctx context.Context, entries ...partd.Entry) error {
	cost := 0
	for _, e := range entries {
		cost += len(e.Key) + len(e.Value) + 24
	}
	s.maxCost, s.appends = max(s.maxCost, cost), s.appends+1
	return s.Dict.Append(ctx, entries...)
}

// TestBatchesFitTheMemory checks that batches have at most a 32nd of the store's memory. A log store
// writes a larger batch as a separate segment. Merging thousands of segments took twenty times as long
// as grouping.
func TestBatchesFitTheMemory(t *testing.T) {
	s := &costStore{Dict: partd.NewDict()}
	o := &shuffle.Options[[14]uint64]{Memory: shuffle.MinMemory, Store: s}
	in := func(yield func([14]uint64, error) bool) {
		for i := range uint64(20_000) {
			if !yield([14]uint64{i % 100, i}, nil) {
				return
			}
		}
	}
	for g, err := range shuffle.GroupBy(t.Context(), in, func(r [14]uint64) uint64 { return r[0] }, o) {
		must.Do(t, err)
		must.Do(t, readAll(g.Values))
	}
	const limit = shuffle.MinMemory * 3 / 4 / 32
	if s.appends < 10 || s.maxCost >= limit {
		t.Errorf("got %d batches, of which the largest has %d bytes; want at least 10 batches of less than %d bytes", s.appends, s.maxCost, limit)
	}
}

func TestKeysOfAllTypes(t *testing.T) {
	type named string
	check := func(name string, sorted bool) {
		t.Helper()
		if !sorted {
			t.Errorf("keys of type %s are not in order", name)
		}
	}
	sortedBy := func(k shuffle.Key[int]) []int {
		return mustCollect(t, shuffle.Sort(context.Background(), shuffle.Values(numbers...), shuffle.By(k), nil))
	}
	check("int8", isSortedBy(sortedBy(shuffle.Asc(func(n int) int8 { return int8(n) })), func(n int) int8 { return int8(n) }))
	check("int16", isSortedBy(sortedBy(shuffle.Asc(func(n int) int16 { return int16(n) })), func(n int) int16 { return int16(n) }))
	check("int32", isSortedBy(sortedBy(shuffle.Asc(func(n int) int32 { return int32(n) })), func(n int) int32 { return int32(n) }))
	check("uint8", isSortedBy(sortedBy(shuffle.Asc(func(n int) uint8 { return uint8(n) })), func(n int) uint8 { return uint8(n) }))
	check("uint64", isSortedBy(sortedBy(shuffle.Asc(func(n int) uint64 { return uint64(n) })), func(n int) uint64 { return uint64(n) }))
	check("float32", isSortedBy(sortedBy(shuffle.Asc(func(n int) float32 { return float32(n) })), func(n int) float32 { return float32(n) }))
	check("float64", isSortedBy(sortedBy(shuffle.Desc(func(n int) float64 { return -float64(n) })), func(n int) float64 { return float64(n) }))
	check("string", isSortedBy(sortedBy(shuffle.Asc(func(n int) named { return named(fmt.Sprint(n)) })), func(n int) string { return fmt.Sprint(n) }))
	descending := sortedBy(shuffle.Desc(func(n int) string { return fmt.Sprint(n) }))
	slices.Reverse(descending)
	check("string, descending", isSortedBy(descending, func(n int) string { return fmt.Sprint(n) }))
}

var numbers = []int{5, -1, 1 << 40, 0, -1 << 40, 255, 256, 127, 128, -128, 32768, 65535, -32769, 1 << 31, 99, 9, 10}

func isSortedBy[K cmp.Ordered](list []int, key func(int) K) bool {
	return len(list) == len(numbers) && slices.IsSortedFunc(list, func(a, b int) int { return cmp.Compare(key(a), key(b)) })
}

func TestSort(t *testing.T) {
	for _, n := range []int{0, 1, manyRecords} {
		in := randomRecs(1, n)
		want := slices.Clone(in)
		slices.SortStableFunc(want, compareRecs)
		got := mustCollect(t, shuffle.Sort(t.Context(), shuffle.Values(in...), byTextAndSmall, minMemory[rec](t)))
		if !slices.Equal(got, want) {
			t.Errorf("Sort() of %d records differs from the records sorted in memory", n)
		}
	}
}
