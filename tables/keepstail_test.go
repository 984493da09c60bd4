package tables

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/take"
)

// The tail's deduplicated rows are cached until the tail changes. A range scan selects its rows
// from them, under every rule for duplicates, with and without a filter.
func TestKeepsTail(t *testing.T) {
	const n = 12_000
	for _, rule := range []OnDuplicate{KeepAll, KeepFirst, KeepLast} {
		s := mustOpen(t, t.TempDir(), &Options{FoldAge: -1})
		b := s.Bucket("b")
		random := rand.New(rand.NewPCG(1, 1))
		value := int64(0)
		put := func(rows int) {
			t.Helper()
			all := make([]tick, rows)
			for i := range all {
				value++
				all[i] = tick{random.Int64N(n), "a", value % 100, 0}
			}
			if _, err := b.Put(t.Context(), "t", ticksOf(all, rows), PutAppend, &PutOptions{Settings: &Settings{Time: "ts", OnDuplicate: rule}}); err != nil {
				t.Fatal(err)
			}
		}
		put(n)
		if _, err := s.Fold(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		put(n)
		tab, err := b.Table(t.Context(), "t")
		if err != nil {
			t.Fatal(err)
		}
		kept := func() bool {
			v, err := tab.dedupedView(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			take.Release(v.rows)
			return v.tail.Deduped
		}
		if kept() || !kept() {
			t.Error(rule, "the tail is made ready again")
		}
		if put(1); kept() || !kept() {
			t.Error(rule, "the tail is not the one after a put")
		}
		whole, err := ticksFrom(tab.Scan(t.Context(), nil))
		if err != nil {
			t.Fatal(err)
		}
		where, err := filter.Parse("v > 90")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			from := random.Int64N(n)
			to := from + random.Int64N(n/3)
			o := &ScanOptions{From: time.Unix(from, 0), To: time.Unix(to, 0)}
			if i%2 == 0 {
				o.Filter = where
			}
			got, err := ticksFrom(tab.Scan(t.Context(), o))
			want := slices.DeleteFunc(slices.Clone(whole), func(k tick) bool { return k.ts < from || k.ts >= to || o.Filter != nil && k.v <= 90 })
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s: from %d to %d are %d rows, want %d: %v", rule, from, to, len(got), len(want), err)
			}
		}
		if _, err := s.Fold(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		again, err := ticksFrom(tab.Scan(t.Context(), nil))
		if used := s.tail.UsedMemory(); err != nil || used != 0 || !slices.Equal(again, whole) {
			t.Errorf("%s: the tail takes %d bytes once it is folded: %v", rule, used, err)
		}
	}
}
