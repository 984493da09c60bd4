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

	"github.com/go-partd/partd/shuffle"
)

// rec is a record with its number in the input.
type rec struct {
	Small int16
	Text  string
	N     int
}

// randomRecs are more than fit into the least memory. Half of them have one key.
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

const many = 150_000

// leastMemory has temporary data in a directory of its own, which must be empty
// at the end.
func leastMemory[T any](t *testing.T) *shuffle.Options[T] {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { mustBeEmpty(t, dir) })
	return &shuffle.Options[T]{Memory: shuffle.MinMemory, Threads: 2, TempDirs: []string{dir}}
}

func mustBeEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("%s is left", e.Name())
	}
}

// feedInParts feeds a part each by a goroutine, in order.
func feedInParts[T any](t *testing.T, feed func() (*shuffle.Feed[T], error), all []T, parts int) {
	t.Helper()
	var wg sync.WaitGroup
	for part := range slices.Chunk(all, len(all)/parts+1) {
		wg.Go(func() {
			f, err := feed()
			if err != nil {
				t.Error(err)
				return
			}
			for _, v := range part {
				if err := f.Add(v); err != nil {
					t.Error(err)
					break
				}
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if err := f.Add(part[0]); err == nil {
				t.Error("a closed feed takes a record")
			}
		})
	}
	wg.Wait()
}

func mustCollect[T any](t *testing.T, seq iter.Seq2[T, error]) []T {
	t.Helper()
	all, err := shuffle.Collect(seq)
	if err != nil {
		t.Fatal(err)
	}
	return all
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

func TestSort(t *testing.T) {
	for _, n := range []int{0, 1, many} {
		in := randomRecs(1, n)
		want := slices.Clone(in)
		slices.SortStableFunc(want, compareRecs)
		got := mustCollect(t, shuffle.Sort(t.Context(), shuffle.Values(in...), byTextAndSmall, leastMemory[rec](t)))
		if !slices.Equal(got, want) {
			t.Errorf("%d records are not sorted as they should be", n)
		}
		got = mustCollect(t, shuffle.SortFunc(t.Context(), shuffle.Values(in...), compareRecs, leastMemory[rec](t)))
		if !slices.Equal(got, want) {
			t.Errorf("%d records are not sorted by the comparison", n)
		}
	}
}

func TestSortFromSeveralFeeds(t *testing.T) {
	in := randomRecs(2, many)
	s, err := shuffle.NewSorter(t.Context(), byTextAndSmall, leastMemory[rec](t))
	if err != nil {
		t.Fatal(err)
	}
	feedInParts(t, s.Feed, in, 3)
	got := mustCollect(t, s.Sorted())
	if !slices.IsSortedFunc(got, compareRecs) {
		t.Error("not sorted")
	}
	// Within a feed the order of equal ones is kept.
	part := len(in)/3 + 1
	for i := 1; i < len(got); i++ {
		a, b := got[i-1], got[i]
		if compareRecs(a, b) == 0 && a.N/part == b.N/part && a.N > b.N {
			t.Fatalf("%v comes before %v", a, b)
		}
	}
	slices.SortFunc(got, func(a, b rec) int { return a.N - b.N })
	if !slices.Equal(got, in) {
		t.Error("records are missing or changed")
	}
	if st := s.Stats(); st.Records != many || st.Spilled == 0 {
		t.Errorf("%+v: meant to spill", st)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestGroupBy(t *testing.T) {
	in := randomRecs(3, many)
	want := make(map[string][]rec)
	for _, r := range in {
		want[r.Text] = append(want[r.Text], r)
	}
	for g, err := range shuffle.GroupBy(t.Context(), shuffle.Values(in...), text, leastMemory[rec](t)) {
		if err != nil {
			t.Fatal(err)
		}
		if got := mustCollect(t, g.Values); !slices.Equal(got, want[g.Key]) {
			t.Fatalf("group %q has %d records, want %d, or others", g.Key, len(got), len(want[g.Key]))
		}
		delete(want, g.Key)
	}
	if len(want) > 0 {
		t.Errorf("%d groups are missing", len(want))
	}
}

// Records so long that runs are merged in several passes.
func TestSortFuncInPasses(t *testing.T) {
	type long struct {
		N    int
		Text string
	}
	in := make([]long, 3000)
	for i := range in {
		in[i] = long{i, strings.Repeat("x", 20_000)}
	}
	s, err := shuffle.NewFuncSorter(t.Context(), func(a, b long) int { return cmp.Compare(a.N%100, b.N%100) }, leastMemory[long](t))
	if err != nil {
		t.Fatal(err)
	}
	feedInParts(t, s.Feed, in, 1)
	last := long{N: -100}
	for v, err := range s.Sorted() {
		if err != nil {
			t.Fatal(err)
		}
		if a, b := last.N%100, v.N%100; a > b || a == b && last.N >= v.N || len(v.Text) != 20_000 {
			t.Fatalf("%d comes after %d", v.N, last.N)
		}
		last = v
	}
	// More than once each: some were merged before the last merge.
	if st := s.Stats(); st.Records != 3000 || st.Spilled < 3000*20_000*11/10 {
		t.Errorf("%+v", st)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A group need not be read to its end, and cannot be read later.
func TestGroupsReadInPart(t *testing.T) {
	in := randomRecs(4, many)
	g, err := shuffle.NewGrouper(t.Context(), text, leastMemory[rec](t))
	if err != nil {
		t.Fatal(err)
	}
	feedInParts(t, g.Feed, in, 3)
	var before iter.Seq2[rec, error]
	groups := make(map[string]bool)
	for group, err := range g.Groups() {
		if err != nil {
			t.Fatal(err)
		}
		if before != nil {
			if _, err := shuffle.Collect(before); err == nil {
				t.Fatal("the values of a group that has passed can be read")
			}
		}
		before = group.Values
		groups[group.Key] = true
		n := 0
		for r, err := range group.Values {
			if err != nil || r.Text != group.Key {
				t.Fatal(r, err)
			}
			if n++; n == 3 {
				break
			}
		}
	}
	if st := g.Stats(); st.Records != many || st.Groups != int64(len(groups)) {
		t.Errorf("%+v", st)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

type total struct {
	Count  int
	Sum    float64
	Least  int
	Common bool // so that it has a gap
}

var recTotals = shuffle.Accumulator[rec, total]{
	Add: func(t *total, r rec) {
		if t.Count == 0 || r.N < t.Least {
			t.Least = r.N
		}
		t.Count++
		t.Sum += float64(r.Small)
	},
	Merge: func(t, o *total) {
		t.Least = min(t.Least, o.Least)
		t.Count += o.Count
		t.Sum += o.Sum
		t.Common = true
	},
}

// rareKey is a key that few records share.
func rareKey(r rec) [2]string { return [2]string{r.Text, fmt.Sprint(r.N % 40_000)} }

func TestAggregate(t *testing.T) {
	in := randomRecs(5, many)
	want := make(map[[2]string]total)
	for _, r := range in {
		w := want[rareKey(r)]
		recTotals.Add(&w, r)
		want[rareKey(r)] = w
	}
	check := func(results []shuffle.Result[[2]string, total]) {
		t.Helper()
		if len(results) != len(want) {
			t.Errorf("%d results, want %d", len(results), len(want))
		}
		for _, r := range results {
			r.Value.Common = false
			if r.Value != want[r.Key] {
				t.Fatalf("%v: %+v, want %+v", r.Key, r.Value, want[r.Key])
			}
		}
	}
	check(mustCollect(t, shuffle.Aggregate(t.Context(), shuffle.Values(in...), rareKey, recTotals, leastMemory[rec](t))))
	a, err := shuffle.NewAggregator(t.Context(), rareKey, recTotals, leastMemory[rec](t))
	if err != nil {
		t.Fatal(err)
	}
	feedInParts(t, a.Feed, in, 5)
	check(mustCollect(t, a.Results()))
	if st := a.Stats(); st.Records != many || st.Groups != int64(len(want)) || st.Spilled == 0 {
		t.Errorf("%+v: meant to spill", st)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// Accumulators may have slices.
func TestAggregateLists(t *testing.T) {
	in := randomRecs(6, many)
	lists := shuffle.Accumulator[rec, []int]{
		Add:   func(l *[]int, r rec) { *l = append(*l, r.N) },
		Merge: func(l, o *[]int) { *l = append(*l, *o...) },
		Size:  func(l *[]int) int { return 8 * cap(*l) },
	}
	want := make(map[string]int)
	for _, r := range in {
		want[r.Text]++
	}
	// One goroutine feeds: what is merged is in order.
	for r, err := range shuffle.Aggregate(t.Context(), shuffle.Values(in...), text, lists, leastMemory[rec](t)) {
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Value) != want[r.Key] || !slices.IsSorted(r.Value) || in[r.Value[0]].Text != r.Key {
			t.Fatalf("%q: %d numbers, want %d, in order", r.Key, len(r.Value), want[r.Key])
		}
		delete(want, r.Key)
	}
	if len(want) > 0 {
		t.Errorf("%d groups are missing", len(want))
	}
}

func TestDistinct(t *testing.T) {
	in := randomRecs(7, many)
	var keys [][2]string
	firsts := make(map[[2]string]rec)
	for _, r := range in {
		k := rareKey(r)
		keys = append(keys, k)
		if _, ok := firsts[k]; !ok {
			firsts[k] = r
		}
	}
	got := mustCollect(t, shuffle.Distinct(t.Context(), shuffle.Values(keys...), leastMemory[[2]string](t)))
	seen := make(map[[2]string]bool)
	for _, k := range got {
		if _, ok := firsts[k]; !ok || seen[k] {
			t.Fatalf("%q is there twice, or should not be", k)
		}
		seen[k] = true
	}
	if len(got) != len(firsts) {
		t.Errorf("%d, want %d", len(got), len(firsts))
	}
	recs := mustCollect(t, shuffle.DistinctBy(t.Context(), shuffle.Values(in...), rareKey, leastMemory[rec](t)))
	if len(recs) != len(firsts) {
		t.Errorf("by key: %d, want %d", len(recs), len(firsts))
	}
	for _, r := range recs {
		if firsts[rareKey(r)] != r {
			t.Fatalf("%v is not the first of its key, that is %v", r, firsts[rareKey(r)])
		}
	}
	d, err := shuffle.NewDistinctBy(t.Context(), rareKey, leastMemory[rec](t))
	if err != nil {
		t.Fatal(err)
	}
	feedInParts(t, d.Feed, in, 4)
	if recs := mustCollect(t, d.Records()); len(recs) != len(firsts) || d.Stats().Spilled == 0 {
		t.Errorf("from two feeds: %d, want %d; %+v", len(recs), len(firsts), d.Stats())
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestTopK(t *testing.T) {
	in := randomRecs(8, many)
	want := slices.Clone(in)
	slices.SortStableFunc(want, compareRecs)
	for _, k := range []int{0, 1, 10, 3000, many - 1, many, 2 * many} {
		got := mustCollect(t, shuffle.TopK(t.Context(), shuffle.Values(in...), k, byTextAndSmall, leastMemory[rec](t)))
		if !slices.Equal(got, want[:min(k, many)]) {
			t.Errorf("%d: %d records, or others", k, len(got))
		}
	}
	top, err := shuffle.NewTop(t.Context(), 100, shuffle.By(shuffle.Desc(func(r rec) int { return r.N })), leastMemory[rec](t))
	if err != nil {
		t.Fatal(err)
	}
	feedInParts(t, top.Feed, in, 2)
	for i, r := range mustCollect(t, top.Records()) {
		if r.N != many-1-i {
			t.Fatalf("record %d is number %d", i, r.N)
		}
	}
	if st := top.Stats(); st.Records != many || st.Spilled != 0 {
		t.Errorf("%+v", st)
	}
	if err := top.Close(); err != nil {
		t.Error(err)
	}
}

func TestPartition(t *testing.T) {
	in := randomRecs(9, many)
	p, err := shuffle.Partition(t.Context(), shuffle.Values(in...), 7, text, leastMemory[rec](t))
	if err != nil {
		t.Fatal(err)
	}
	where := make(map[string]int)
	all := 0
	for i := range 7 {
		last := -1
		for _, r := range mustCollect(t, p.Records(i)) {
			if n, ok := where[r.Text]; ok && n != i {
				t.Fatalf("%q is in the partitions %d and %d", r.Text, n, i)
			}
			where[r.Text] = i
			if r.N <= last || in[r.N] != r {
				t.Fatalf("%v in partition %d is out of order, or changed", r, i)
			}
			last = r.N
			all++
		}
	}
	if all != many {
		t.Errorf("%d records", all)
	}
	if err := p.Verify(); err != nil {
		t.Error(err)
	}
	if _, err := shuffle.Collect(p.Records(7)); err == nil {
		t.Error("there is a partition too many")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestPartitionBy(t *testing.T) {
	in := randomRecs(10, 5000)
	p, err := shuffle.NewPartitionerBy(t.Context(), text, leastMemory[rec](t))
	if err != nil {
		t.Fatal(err)
	}
	feedInParts(t, p.Feed, in, 1)
	want := make(map[string][]rec)
	for _, r := range in {
		want[r.Text] = append(want[r.Text], r)
	}
	keys := mustCollect(t, p.Keys())
	if len(keys) != len(want) {
		t.Errorf("%d keys, want %d", len(keys), len(want))
	}
	for _, k := range keys {
		if got := mustCollect(t, p.Records(k)); !slices.Equal(got, want[k]) {
			t.Fatalf("%q: %v", k, got)
		}
	}
	if got := mustCollect(t, p.Records("none such")); got != nil {
		t.Errorf("%v", got)
	}
	if err := p.Verify(); err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// Keys of all types are ordered as they compare.
func TestKeysOfAllTypes(t *testing.T) {
	type named string
	check := func(name string, sorted bool) {
		t.Helper()
		if !sorted {
			t.Errorf("%s is not sorted", name)
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
	check("bytes", isSortedBy(sortedBy(shuffle.AscBytes(func(n int) []byte { return fmt.Append(nil, n) })), func(n int) string { return fmt.Sprint(n) }))
	descending := sortedBy(shuffle.DescBytes(func(n int) []byte { return fmt.Append(nil, n) }))
	slices.Reverse(descending)
	check("bytes, descending", isSortedBy(descending, func(n int) string { return fmt.Sprint(n) }))
}

var numbers = []int{5, -1, 1 << 40, 0, -1 << 40, 255, 256, 127, 128, -128, 32768, 65535, -32769, 1 << 31, 99, 9, 10}

func isSortedBy[K cmp.Ordered](list []int, key func(int) K) bool {
	return len(list) == len(numbers) && slices.IsSortedFunc(list, func(a, b int) int { return cmp.Compare(key(a), key(b)) })
}
