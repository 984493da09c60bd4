package shuffle_test

import (
	"slices"
	"testing"

	"github.com/go-partd/partd/shuffle"
)

func TestPartition(t *testing.T) {
	in := randomRecs(9, many)
	p, err := shuffle.Partition(t.Context(), shuffle.Values(in...), 7, text, minMemory[rec](t))
	if err != nil {
		t.Fatal(err)
	}
	partitionOf := make(map[string]int)
	all := 0
	for i := range 7 {
		last := -1
		for _, r := range mustCollect(t, p.Records(i)) {
			if n, ok := partitionOf[r.Text]; ok && n != i {
				t.Fatalf("%q is in the partitions %d and %d", r.Text, n, i)
			}
			partitionOf[r.Text] = i
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
		t.Error("there are too many partitions")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestPartitionBy(t *testing.T) {
	in := randomRecs(10, 5000)
	p, err := shuffle.NewPartitionsBy(t.Context(), text, minMemory[rec](t))
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
