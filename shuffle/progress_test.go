package shuffle_test

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/shuffle"
)

// progressRecorder records progress, and fails the test if progress decreases or if calls overlap.
type progressRecorder struct {
	t     *testing.T
	busy  atomic.Bool
	calls int
	last  shuffle.Progress
	stats func() shuffle.Stats
	delay time.Duration
}

func (w *progressRecorder) record(p shuffle.Progress) {
	if !w.busy.CompareAndSwap(false, true) {
		w.t.Error("two calls of Progress overlap")
		return
	}
	defer w.busy.Store(false)
	time.Sleep(w.delay)
	if w.stats != nil {
		_ = w.stats() // must not deadlock
	}
	l := w.last
	if p.RecordsIn < l.RecordsIn || p.BytesIn < l.BytesIn || p.RecordsOut < l.RecordsOut || p.BytesOut < l.BytesOut {
		w.t.Errorf("progress decreases from %+v to %+v", l, p)
	}
	w.calls++
	w.last = p
}

// TestProgressTotals checks that the last report of each operation has the totals.
func TestProgressTotals(t *testing.T) {
	in := randomRecs(12, manyRecords)
	keys, keyBytes := map[[2]string]bool{}, int64(0)
	for _, r := range in {
		key := rareKey(r)
		keys[key] = true
		keyBytes += int64(len(key[0]) + len(key[1]))
	}
	groups := int64(len(keys))
	want := map[string]int64{
		"sort": manyRecords, "group": manyRecords, "partition": manyRecords,
		"top": 50_000, "aggregate": groups, "distinct": groups,
	}
	o := minMemory[rec](t)
	for name, run := range operations(shuffle.Values(in...), o) {
		w := &progressRecorder{t: t}
		o.Progress = w.record
		if err := run(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if w.last.RecordsIn != manyRecords || w.last.RecordsOut != want[name] {
			t.Errorf("%s: last report %+v, want %d records in and %d out", name, w.last, manyRecords, want[name])
		}
		if w.calls > 1000 {
			t.Errorf("%s: %d calls of Progress, want at most 1000", name, w.calls)
		}
		switch name {
		case "sort", "group", "partition":
			if w.last.BytesIn == 0 || w.last.BytesIn != w.last.BytesOut {
				t.Errorf("%s: last report %+v, want as many bytes out as in", name, w.last)
			}
		case "aggregate":
			if w.last.BytesIn < keyBytes || w.last.BytesIn > 2*keyBytes+2*manyRecords {
				t.Errorf("%s: last report %+v, want about %d bytes of keys in", name, w.last, keyBytes)
			}
		}
	}
}

// TestProgressOfSeveralGoroutines checks that if several goroutines feed and read slowly, progress is
// also reported before the end. The Progress function calls Stats.
func TestProgressOfSeveralGoroutines(t *testing.T) {
	in := randomRecs(13, 8*1024)
	w := &progressRecorder{t: t, delay: 150 * time.Millisecond} // so the next call is due before this one ends
	o := minMemory[rec](t)
	o.Progress = w.record
	slow := func(r rec) string {
		if r.N%256 == 0 {
			time.Sleep(50 * time.Millisecond)
		}
		return r.Text
	}
	g := must.Get(shuffle.NewGrouper(t.Context(), slow, o))(t)
	defer g.Close()
	w.stats = g.Stats
	must.Do(t, shuffle.FeedAll(t.Context(), g, 4, splitRecords(in, 4)...))
	if w.last.RecordsIn != int64(len(in)) || w.calls <= 4 {
		t.Errorf("%d calls of Progress, the last with %+v; want more than 4 calls and %d records in", w.calls, w.last, len(in))
	}
	must.Do(t, g.ForEach(t.Context(), 4, func(_ context.Context, g shuffle.Group[string, rec]) error { return readAll(g.Values) }))
	if w.last.RecordsOut != int64(len(in)) || w.last.BytesOut != w.last.BytesIn {
		t.Errorf("last report %+v, want %d records out and as many bytes out as in", w.last, len(in))
	}
}

// TestProgressOutsideLocks checks that a feed that several goroutines share, and feeds that share a table, hold
// no lock while they report progress. The Progress function calls Stats and adds a record.
func TestProgressOutsideLocks(t *testing.T) {
	count := shuffle.Accumulator[rec, int]{Add: func(n *int, _ rec) { *n++ }, Merge: func(n, o *int) { *n += *o }}
	for name, start := range map[string]func(o *shuffle.Options[rec]) (feeder[rec], error){
		"sort": func(o *shuffle.Options[rec]) (feeder[rec], error) {
			return shuffle.NewSorter(t.Context(), byTextAndSmall, o)
		},
		"top": func(o *shuffle.Options[rec]) (feeder[rec], error) {
			return shuffle.NewTop(t.Context(), 10, byTextAndSmall, o)
		},
		"aggregate": func(o *shuffle.Options[rec]) (feeder[rec], error) {
			return shuffle.NewAggregator(t.Context(), text, count, o)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &progressRecorder{t: t}
			o := minMemory[rec](t)
			o.Progress, o.Threads = w.record, 1 // one thread, so that all feeds of an aggregator share a table
			s := must.Get(start(o))(t)
			defer s.Close()
			feeds := make([]*shuffle.Feed[rec], 2)
			for i := range feeds {
				feeds[i] = must.Get(s.Feed())(t)
			}
			first := rec{Text: "added by Progress"}
			w.stats = func() shuffle.Stats {
				if w.calls == 0 {
					must.Check(t, feeds[0].Add(first))
				}
				return s.Stats()
			}
			var all sync.WaitGroup
			for i, part := range splitRecords(randomRecs(14, 4096), 4) {
				all.Go(func() { // two goroutines for each feed
					n := 0
					for r, err := range part {
						if n++; n%256 == 0 {
							time.Sleep(60 * time.Millisecond)
						}
						if err = cmp.Or(err, feeds[i%2].Add(r)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			calls := w.calls
			for _, f := range feeds {
				must.Do(t, f.Close())
			}
			if calls == 0 || w.last.RecordsIn != 4096+1 {
				t.Errorf("%d calls of Progress before the end, the last of all with %+v; want some, and 4097 records in", calls, w.last)
			}
		})
	}
}
