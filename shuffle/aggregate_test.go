package shuffle_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/shuffle"
)

type total struct {
	Count  int
	Sum    float64
	Min    int
	Merged bool // adds padding
}

var recTotals = shuffle.Accumulator[rec, total]{
	Add: func(t *total, r rec) {
		if t.Count == 0 || r.N < t.Min {
			t.Min = r.N
		}
		t.Count++
		t.Sum += float64(r.Small)
	},
	Merge: func(t, o *total) {
		t.Min = min(t.Min, o.Min)
		t.Count += o.Count
		t.Sum += o.Sum
		t.Merged = true
	},
}

// rareKey is a key that few records share.
func rareKey(r rec) [2]string { return [2]string{r.Text, fmt.Sprint(r.N % 40_000)} }

func TestAggregate(t *testing.T) {
	in := randomRecs(5, manyRecords)
	want := make(map[[2]string]total)
	for _, r := range in {
		w := want[rareKey(r)]
		recTotals.Add(&w, r)
		want[rareKey(r)] = w
	}
	check := func(results []shuffle.Result[[2]string, total]) {
		t.Helper()
		if len(results) != len(want) {
			t.Errorf("got %d results, want %d", len(results), len(want))
		}
		for _, r := range results {
			r.Value.Merged = false
			if r.Value != want[r.Key] {
				t.Fatalf("the result of key %v is %+v, want %+v", r.Key, r.Value, want[r.Key])
			}
		}
	}
	check(mustCollect(t, shuffle.Aggregate(t.Context(), shuffle.Values(in...), rareKey, recTotals, minMemory[rec](t))))
	a := must.Get(shuffle.NewAggregator(t.Context(), rareKey, recTotals, minMemory[rec](t)))(t)
	feedInParts(t, a.Feed, in, 5)
	check(mustCollect(t, a.Results()))
	if st := a.Stats(); st.Records != manyRecords || st.Groups != int64(len(want)) || st.Spilled == 0 {
		t.Errorf("Stats() = %+v, want %d records, %d groups and spilled data", st, manyRecords, len(want))
	}
	must.Do(t, a.Close())
}

func TestAggregateLists(t *testing.T) {
	in := randomRecs(6, manyRecords)
	lists := shuffle.Accumulator[rec, []int]{
		Add:   func(l *[]int, r rec) { *l = append(*l, r.N) },
		Merge: func(l, o *[]int) { *l = append(*l, *o...) },
		Size:  func(l *[]int) int { return 8 * cap(*l) },
		Codec: encode.Gob[[]int](),
	}
	want := make(map[string]int)
	for _, r := range in {
		want[r.Text]++
	}
	// Only one goroutine feeds, so merged lists are in order.
	for r, err := range shuffle.Aggregate(t.Context(), shuffle.Values(in...), text, lists, minMemory[rec](t)) {
		must.Do(t, err)
		if len(r.Value) != want[r.Key] || !slices.IsSorted(r.Value) || in[r.Value[0]].Text != r.Key {
			t.Fatalf("key %q has the numbers %v, want %d numbers in order", r.Key, r.Value, want[r.Key])
		}
		delete(want, r.Key)
	}
	if len(want) > 0 {
		t.Errorf("%d groups are missing", len(want))
	}
}

func TestDistinct(t *testing.T) {
	in := randomRecs(7, manyRecords)
	var keys [][2]string
	firsts := make(map[[2]string]rec)
	for _, r := range in {
		k := rareKey(r)
		keys = append(keys, k)
		if _, ok := firsts[k]; !ok {
			firsts[k] = r
		}
	}
	checkKeys := func(label string, got [][2]string) {
		t.Helper()
		seen := make(map[[2]string]bool)
		for _, k := range got {
			if _, ok := firsts[k]; !ok || seen[k] {
				t.Fatalf("%s yields %q, which is duplicated or unexpected", label, k)
			}
			seen[k] = true
		}
		if len(got) != len(firsts) {
			t.Errorf("%s yields %d records, want %d", label, len(got), len(firsts))
		}
	}
	checkKeys("Distinct", mustCollect(t, shuffle.Distinct(t.Context(), shuffle.Values(keys...), minMemory[[2]string](t))))
	deduplicator := must.Get(shuffle.NewDeduplicator(t.Context(), minMemory[[2]string](t)))(t)
	feedInParts(t, deduplicator.Feed, keys, 4)
	checkKeys("Deduplicator with several feeds", mustCollect(t, deduplicator.Records()))
	must.Do(t, deduplicator.Close())
	recs := mustCollect(t, shuffle.DistinctBy(t.Context(), shuffle.Values(in...), rareKey, minMemory[rec](t)))
	if len(recs) != len(firsts) {
		t.Errorf("DistinctBy() yields %d records, want %d", len(recs), len(firsts))
	}
	for _, r := range recs {
		if firsts[rareKey(r)] != r {
			t.Fatalf("DistinctBy() yields %v, but the first record of this key is %v", r, firsts[rareKey(r)])
		}
	}
	d := must.Get(shuffle.NewDeduplicatorBy(t.Context(), rareKey, minMemory[rec](t)))(t)
	feedInParts(t, d.Feed, in, 4)
	if recs := mustCollect(t, d.Records()); len(recs) != len(firsts) || d.Stats().Spilled == 0 {
		t.Errorf("DeduplicatorBy with several feeds yields %d records, want %d; stats %+v, want spilled data", len(recs), len(firsts), d.Stats())
	}
	must.Do(t, d.Close())
}

func TestTopK(t *testing.T) {
	in := randomRecs(8, manyRecords)
	want := slices.Clone(in)
	slices.SortStableFunc(want, compareRecs)
	for _, k := range []int{0, 1, 10, 3000, manyRecords - 1, manyRecords, 2 * manyRecords} {
		got := mustCollect(t, shuffle.TopK(t.Context(), shuffle.Values(in...), k, byTextAndSmall, minMemory[rec](t)))
		if !slices.Equal(got, want[:min(k, manyRecords)]) {
			t.Errorf("TopK(%d) yields wrong records (%d records, want %d)", k, len(got), min(k, manyRecords))
		}
	}
	ties := make([]rec, 10_000)
	for i := range ties {
		ties[i].N = i
	}
	for i, r := range mustCollect(t, shuffle.TopK(t.Context(), shuffle.Values(ties...), 100, shuffle.By(shuffle.Asc(func(rec) int { return 7 })), minMemory[rec](t))) {
		if r.N != i {
			t.Fatalf("of records with equal keys, result %d is record %d, want the input order", i, r.N)
		}
	}
	top := must.Get(shuffle.NewTop(t.Context(), 100, shuffle.By(shuffle.Desc(func(r rec) int { return r.N })), minMemory[rec](t)))(t)
	feedInParts(t, top.Feed, in, 2)
	for i, r := range mustCollect(t, top.Records()) {
		if r.N != manyRecords-1-i {
			t.Fatalf("result %d is record %d, want %d", i, r.N, manyRecords-1-i)
		}
	}
	if st := top.Stats(); st.Records != manyRecords || st.Spilled != 0 {
		t.Errorf("Stats() = %+v, want %d records and no spilled data", st, manyRecords)
	}
	must.Do(t, top.Close())
}
