package shuffle_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

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
	text := func(r rec) string { return r.Text }
	count := shuffle.Accumulator[rec, int]{Add: func(n *int, _ rec) { *n++ }, Merge: func(n, o *int) { *n += *o }}
	texts := map[string]bool{}
	keyBytes := int64(0)
	for _, r := range in {
		texts[r.Text] = true
		keyBytes += int64(len(r.Text))
	}
	for name, run := range map[string]func(*shuffle.Options[rec]) (out int64, err error){
		"sort": func(o *shuffle.Options[rec]) (int64, error) {
			return manyRecords, readAll(shuffle.Sort(t.Context(), shuffle.Values(in...), byTextAndSmall, o))
		},
		"group": func(o *shuffle.Options[rec]) (int64, error) {
			for g, err := range shuffle.GroupBy(t.Context(), shuffle.Values(in...), text, o) {
				if err != nil {
					return 0, err
				}
				if err := readAll(g.Values); err != nil {
					return 0, err
				}
			}
			return manyRecords, nil
		},
		"partition": func(o *shuffle.Options[rec]) (int64, error) {
			p, err := shuffle.Partition(t.Context(), shuffle.Values(in...), 2, text, o)
			if err != nil {
				return 0, err
			}
			defer p.Close()
			mustCollect(t, p.Records(0))
			mustCollect(t, p.Records(1))
			return manyRecords, nil
		},
		"aggregate": func(o *shuffle.Options[rec]) (int64, error) {
			return int64(len(texts)), readAll(shuffle.Aggregate(t.Context(), shuffle.Values(in...), text, count, o))
		},
		"distinct": func(o *shuffle.Options[rec]) (int64, error) {
			return int64(len(texts)), readAll(shuffle.DistinctBy(t.Context(), shuffle.Values(in...), text, o))
		},
		"top": func(o *shuffle.Options[rec]) (int64, error) {
			return 10, readAll(shuffle.TopK(t.Context(), shuffle.Values(in...), 10, byTextAndSmall, o))
		},
	} {
		w := &progressRecorder{t: t}
		o := minMemory[rec](t)
		o.Progress = w.record
		out, err := run(o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if w.last.RecordsIn != manyRecords || w.last.RecordsOut != out {
			t.Errorf("%s: last report %+v, want %d records in and %d out", name, w.last, manyRecords, out)
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
			if w.last.BytesIn < keyBytes || w.last.BytesIn > 2*keyBytes+manyRecords {
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
	g, err := shuffle.NewGrouper(t.Context(), slow, o)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	w.stats = g.Stats
	if err := shuffle.FeedAll(t.Context(), g, 4, splitRecords(in, 4)...); err != nil {
		t.Fatal(err)
	}
	if w.last.RecordsIn != int64(len(in)) || w.calls <= 4 {
		t.Errorf("%d calls of Progress, the last with %+v; want more than 4 calls and %d records in", w.calls, w.last, len(in))
	}
	err = g.ForEach(t.Context(), 4, func(_ context.Context, g shuffle.Group[string, rec]) error { return readAll(g.Values) })
	if err != nil {
		t.Fatal(err)
	}
	if w.last.RecordsOut != int64(len(in)) || w.last.BytesOut != w.last.BytesIn {
		t.Errorf("last report %+v, want %d records out and as many bytes out as in", w.last, len(in))
	}
}
