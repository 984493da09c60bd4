package shuffle_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/shuffle"
)

func splitRecords(all []rec, n int) (seqs []iter.Seq2[rec, error]) {
	for part := range slices.Chunk(all, (len(all)+n-1)/n) {
		seqs = append(seqs, shuffle.Values(part...))
	}
	return seqs
}

// TestFeedAll checks that several kinds of Feeders get all records from several goroutines.
func TestFeedAll(t *testing.T) {
	in := randomRecs(7, manyRecords)
	texts := map[string]int{}
	for _, r := range in {
		texts[r.Text]++
	}
	sorted := slices.Clone(in)
	slices.SortFunc(sorted, compareRecs)
	feed := func(t *testing.T, feeder shuffle.Feeder[rec], n int) {
		t.Helper()
		must.Do(t, shuffle.FeedAll(t.Context(), feeder, n, splitRecords(in, 7)...))
	}
	for _, n := range []int{0, 1, 3, 7, 1024} {
		sorter := must.Get(shuffle.NewSorter(t.Context(), byTextAndSmall, minMemory[rec](t)))(t)
		feed(t, sorter, n)
		checkOrder(t, sorted, mustCollect(t, sorter.Sorted()), 7)
		if st := sorter.Stats(); st.Records != manyRecords || st.Spilled == 0 {
			t.Errorf("Stats() = %+v, want %d records and spilled data", st, manyRecords)
		}
		counts := must.Get(shuffle.NewAggregator(t.Context(), func(r rec) string { return r.Text }, shuffle.Accumulator[rec, int]{
			Add: func(n *int, _ rec) { *n++ }, Merge: func(n, o *int) { *n += *o },
		}, minMemory[rec](t)))(t)
		feed(t, counts, n)
		results := mustCollect(t, counts.Results())
		for _, r := range results {
			if texts[r.Key] != r.Value {
				t.Errorf("key %q has %d records, want %d", r.Key, r.Value, texts[r.Key])
			}
		}
		if len(results) != len(texts) {
			t.Errorf("got %d results, want %d", len(results), len(texts))
		}
		for _, s := range []interface{ Close() error }{sorter, counts} {
			must.Do(t, s.Close())
		}
	}
}

// checkOrder checks that both slices have the same keys in the same order. Records with equal keys keep their order only
// within a feed, that is, within one of the given number of parts of the input.
func checkOrder(t *testing.T, want, got []rec, parts int) {
	t.Helper()
	if !slices.EqualFunc(want, got, func(a, b rec) bool { return compareRecs(a, b) == 0 }) {
		t.Error("the keys of the records, in order, differ from the wanted keys")
	}
	numbers := make([]bool, len(want))
	part := (len(want) + parts - 1) / parts
	for i, r := range got {
		if i > 0 && compareRecs(got[i-1], r) == 0 && got[i-1].N/part == r.N/part && got[i-1].N > r.N {
			t.Fatalf("%v comes before the equal but earlier record %v", got[i-1], r)
		}
		if numbers[r.N] {
			t.Fatalf("record %d occurs twice", r.N)
		}
		numbers[r.N] = true
	}
}

// TestFeedAllFails checks that an error, a cancellation or a panic stops sequences that would never end.
func TestFeedAllFails(t *testing.T) {
	errBrokenSeq := errors.New("a broken sequence")
	var ended atomic.Int64
	endless := func(yield func(rec, error) bool) {
		defer ended.Add(1)
		for yield(rec{}, nil) {
			time.Sleep(time.Millisecond)
		}
	}
	failing := func(yield func(rec, error) bool) {
		time.Sleep(10 * time.Millisecond)
		yield(rec{}, errBrokenSeq)
	}
	mustNotRun := func(func(rec, error) bool) { t.Error("FeedAll() started a sequence that it must not start") }
	newGrouper := func() *shuffle.Grouper[rec, string] { return newGroups(t, nil, minMemory[rec](t)) }
	if err := shuffle.FeedAll(t.Context(), newGrouper(), 3, endless, endless, failing, mustNotRun); err != errBrokenSeq {
		t.Errorf("FeedAll() error = %v, want %v", err, errBrokenSeq)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	errEnough := errors.New("enough")
	time.AfterFunc(10*time.Millisecond, func() { cancel(errEnough) })
	if err := shuffle.FeedAll(ctx, newGrouper(), 2, endless, endless); !errors.Is(err, errEnough) || !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "\n") {
		t.Errorf("FeedAll() error = %v, want %v and %v in one line", err, errEnough, context.Canceled)
	}
	if n := ended.Load(); n != 4 {
		t.Errorf("%d sequences ended, want 4", n)
	}
	for _, n := range []int{-1, 1025} {
		if err := shuffle.FeedAll(t.Context(), newGrouper(), n, mustNotRun); err == nil {
			t.Errorf("FeedAll() with %d goroutines returned no error", n)
		}
	}
	got := func() (p any) {
		defer func() { p = recover() }()
		_ = shuffle.FeedAll(t.Context(), newGrouper(), 2, endless, func(func(rec, error) bool) { panic("a sequence") })
		return nil
	}()
	if got != "a sequence" {
		t.Errorf("recovered %v, want the panic of the sequence", got)
	}
}

// newGroups returns a grouper by text that contains all records. One group has half of the records.
func newGroups(t *testing.T, in []rec, o *shuffle.Options[rec]) *shuffle.Grouper[rec, string] {
	t.Helper()
	g := must.Get(shuffle.NewGrouper(t.Context(), func(r rec) string { return r.Text }, o))(t)
	t.Cleanup(func() { must.Do(t, g.Close()) })
	must.Do(t, shuffle.FeedAll(t.Context(), g, 1, shuffle.Values(in...)))
	return g
}

// TestForEach checks that each group is passed once, with its records in order, even if some groups are not read to
// their end.
func TestForEach(t *testing.T) {
	in := randomRecs(8, manyRecords)
	want := map[string][]rec{}
	for _, r := range in {
		want[r.Text] = append(want[r.Text], r)
	}
	for _, n := range []int{0, 1, 2, 5, 64} {
		var mu sync.Mutex
		seen := map[string]bool{}
		check := func(_ context.Context, g shuffle.Group[string, rec]) error {
			mu.Lock()
			duplicate := seen[g.Key]
			seen[g.Key] = true
			mu.Unlock()
			if duplicate {
				t.Errorf("ForEach() passes group %q twice", g.Key)
			}
			stopAfter := len(want[g.Key])
			if stopAfter%3 == 0 {
				stopAfter = stopAfter / 2
			}
			i := 0
			for r, err := range g.Values {
				if err != nil {
					return err
				}
				if r != want[g.Key][i] {
					t.Fatalf("group %q has %v at %d, want %v", g.Key, r, i, want[g.Key][i])
				}
				if i++; i == stopAfter {
					return nil
				}
			}
			t.Errorf("group %q has %d records, want %d", g.Key, i, len(want[g.Key]))
			return nil
		}
		g := newGroups(t, in, minMemory[rec](t))
		must.Do(t, g.ForEach(t.Context(), n, check))
		if len(seen) != len(want) {
			t.Errorf("%d goroutines: %d groups, want %d", n, len(seen), len(want))
		}
		if st := g.Stats(); st.Groups != int64(len(want)) {
			t.Errorf("Stats counts %d groups, want %d", st.Groups, len(want))
		}
	}
}

// TestForEachIsParallel checks that ForEach processes groups concurrently: the first two calls wait for each other.
func TestForEachIsParallel(t *testing.T) {
	const large = 100_000 // records of a group, which fill several batches
	in := make([]rec, 0, 2*large)
	for i := range large {
		in = append(in, rec{Text: "a", N: i}, rec{Text: "b", N: i})
	}
	for name, in := range map[string][]rec{"small": randomRecs(9, manyRecords), "large": in} {
		o := minMemory[rec](t)
		if name == "large" {
			o.Memory = 256 << 20 // both groups fit in the memory for reading ahead
		}
		g := newGroups(t, in, o)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var arrived sync.WaitGroup
		arrived.Add(2)
		bothRunning := make(chan struct{})
		go func() { arrived.Wait(); close(bothRunning) }()
		var calls atomic.Int64
		err := g.ForEach(ctx, 2, func(ctx context.Context, _ shuffle.Group[string, rec]) error {
			if calls.Add(1) <= 2 {
				arrived.Done()
			}
			select {
			case <-bothRunning:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		if err != nil {
			t.Errorf("ForEach() over %s groups: %v", name, err)
		}
	}
}

// TestForEachOfOneGoroutine checks that ForEach with one goroutine does not process two groups at the same time.
func TestForEachOfOneGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running atomic.Int64
		g := newGroups(t, randomRecs(11, manyRecords), minMemory[rec](t))
		must.Do(t, g.ForEach(t.Context(), 1, func(context.Context, shuffle.Group[string, rec]) error {
			if running.Add(1) > 1 {
				return errors.New("two groups are processed at the same time")
			}
			time.Sleep(time.Nanosecond) // ends when all goroutines wait
			running.Add(-1)
			return nil
		}))
	})
}

// TestForEachFails checks that ForEach stops all goroutines after an error, a cancellation or a panic, and detects
// missing data.
func TestForEachFails(t *testing.T) {
	in := randomRecs(10, 20_000)
	errBrokenGroup := errors.New("a broken group")
	g := newGroups(t, in, minMemory[rec](t))
	var calls, waited atomic.Int64
	err := g.ForEach(t.Context(), 3, func(ctx context.Context, _ shuffle.Group[string, rec]) error {
		if calls.Add(1) == 3 {
			return errBrokenGroup
		}
		<-ctx.Done()
		waited.Add(1)
		return context.Cause(ctx)
	})
	if err != errBrokenGroup || calls.Load() != 3 || waited.Load() != 2 {
		t.Errorf("ForEach() error = %v after %d calls, of which %d waited; want %v, 3 and 2", err, calls.Load(), waited.Load(), errBrokenGroup)
	}

	errEnough := errors.New("enough")
	for _, returned := range []error{nil, fmt.Errorf("a group: %w", context.Canceled)} {
		ctx, cancel := context.WithCancelCause(t.Context())
		err = newGroups(t, in, minMemory[rec](t)).ForEach(ctx, 2, func(context.Context, shuffle.Group[string, rec]) error {
			cancel(errEnough)
			return returned
		})
		if !errors.Is(err, errEnough) || !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "\n") {
			t.Errorf("ForEach() error = %v, want %v and %v in one line", err, errEnough, context.Canceled)
		}
	}

	got := func() (p any) {
		defer func() { p = recover() }()
		_ = newGroups(t, in, minMemory[rec](t)).ForEach(t.Context(), 2, func(context.Context, shuffle.Group[string, rec]) error {
			panic("a group")
		})
		return nil
	}()
	if got != "a group" {
		t.Errorf("recovered %v, want the panic of the callback", got)
	}

	store := partd.NewDict()
	o := minMemory[rec](t)
	o.Store = store
	g = newGroups(t, in, o)
	must.Do(t, partd.Delete(t.Context(), store, "half"))
	err = g.ForEach(t.Context(), 3, func(context.Context, shuffle.Group[string, rec]) error { return nil })
	must.Fail(t, err, shuffle.ErrNotVerified, "ForEach() with a missing group")
	if err := g.ForEach(t.Context(), -1, nil); err == nil {
		t.Error("ForEach() with -1 goroutines returned no error")
	}
}

// TestForEachPartition checks that ForEach can read partitions several times.
func TestForEachPartition(t *testing.T) {
	in := randomRecs(11, manyRecords)
	p := must.Get(shuffle.Partition(t.Context(), shuffle.Values(in...), 16, func(r rec) string { return r.Text }, minMemory[rec](t)))(t)
	defer p.Close()
	for range 2 {
		var records [16]atomic.Int64
		must.Do(t, p.ForEach(t.Context(), 4, func(_ context.Context, g shuffle.Group[int, rec]) error {
			for _, err := range g.Values {
				if err != nil {
					return err
				}
				records[g.Key].Add(1)
			}
			return nil
		}))
		all := int64(0)
		for i := range records {
			n := int64(len(mustCollect(t, p.Records(i))))
			if all += n; records[i].Load() != n {
				t.Errorf("partition %d has %d records, want %d", i, records[i].Load(), n)
			}
		}
		if all != manyRecords {
			t.Errorf("the partitions have %d records, want %d", all, manyRecords)
		}
	}
}
