package shuffle_test

import (
	"slices"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/shuffle"
)

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
