package tables_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestCachedTail checks that the deduplicated rows of the tail (rows not yet in data files) are cached until the
// tail changes. Range scans must return the right rows from the cache under every rule for duplicates, with and
// without a filter.
func TestCachedTail(t *testing.T) {
	const n = 12_000
	for _, rule := range []tables.OnDuplicate{tables.KeepAll, tables.KeepFirst, tables.KeepLast} {
		s := tabletest.Open(t, t.TempDir(), &tables.Options{FoldAge: -1})
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
			tabletest.PutRows(t, b, "t", ticksOf(all, rows), tables.PutAppend, &tables.PutOptions{Settings: &tables.Settings{Time: "ts", OnDuplicate: rule}})
		}
		put(n)
		tabletest.Fold(t, s)
		put(n)
		table := b.Table("t")
		isCached := func() bool {
			v, release, err := table.PinnedView(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			return v.Tail().Deduped
		}
		if isCached() || !isCached() {
			t.Errorf("%s: the deduplicated tail is not cached", rule)
		}
		if put(1); isCached() || !isCached() {
			t.Errorf("%s: the cache was not replaced after a put", rule)
		}
		allRows, err := ticksFrom(table.Scan(t.Context(), nil))
		if err != nil {
			t.Fatal(err)
		}
		where, err := filter.Parse("v > 90")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			start := random.Int64N(n)
			end := start + random.Int64N(n/3)
			o := &tables.ScanOptions{From: time.Unix(start, 0), To: time.Unix(end, 0)}
			if i%2 == 0 {
				o.Filter = where
			}
			got, err := ticksFrom(table.Scan(t.Context(), o))
			want := slices.DeleteFunc(slices.Clone(allRows), func(k tick) bool { return k.ts < start || k.ts >= end || o.Filter != nil && k.v <= 90 })
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("%s: scan from %d to %d returned %d rows, want %d; error: %v", rule, start, end, len(got), len(want), err)
			}
		}
		tabletest.Fold(t, s)
		folded, err := ticksFrom(table.Scan(t.Context(), nil))
		if used := s.Tail().UsedMemory(); err != nil || used != 0 || !slices.Equal(folded, allRows) {
			t.Errorf("%s: after the fold, the tail uses %d bytes of memory, want 0 bytes and unchanged rows; error: %v", rule, used, err)
		}
	}
}
