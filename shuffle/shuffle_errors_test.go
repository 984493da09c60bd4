package shuffle_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/shuffle"
)

// TestTooLarge checks that errors about records that are too large for the memory or for a store wrap
// partd.ErrTooLarge.
func TestTooLarge(t *testing.T) {
	long := shuffle.Values(rec{Text: strings.Repeat("x", 4<<20)})
	o := minMemory[rec](t)
	tests := operations(long, o)
	tests["partition"] = func(ctx context.Context) error {
		p, err := shuffle.PartitionBy(ctx, long, text, o)
		if err == nil {
			err = p.Close()
		}
		return err
	}
	for name, run := range tests {
		must.Fail(t, run(t.Context()), partd.ErrTooLarge, "%s", name)
	}
}

var counts = shuffle.Accumulator[string, int]{
	Add:   func(total *int, _ string) { *total++ },
	Merge: func(total, other *int) { *total += *other },
}

// TestClosed checks that errors of closed values wrap shuffle.ErrClosed, partd.ErrClosed and fs.ErrClosed.
func TestClosed(t *testing.T) {
	ctx, o := t.Context(), minMemory[string](t)
	identity := func(s string) string { return s }
	by := shuffle.By(shuffle.Asc(identity))
	sorter, err1 := shuffle.NewSorter(ctx, by, o)
	top, err2 := shuffle.NewTop(ctx, 5, by, o)
	distinct, err3 := shuffle.NewDeduplicator(ctx, o)
	groups, err4 := shuffle.NewGrouper(ctx, identity, o)
	sums, err5 := shuffle.NewAggregator(ctx, identity, counts, o)
	parts, err6 := shuffle.NewPartitionsBy(ctx, identity, o)
	must.Do(t, errors.Join(err1, err2, err3, err4, err5, err6))
	check := func(name string, err error) {
		t.Helper()
		for _, want := range []error{shuffle.ErrClosed, partd.ErrClosed, fs.ErrClosed} {
			if !errors.Is(err, want) {
				t.Errorf("%s: error = %v, which does not wrap %v", name, err, want)
			}
		}
	}
	for name, s := range map[string]feeder[string]{
		"sort": sorter, "top": top, "distinct": distinct,
		"group": groups, "aggregate": sums, "partition": parts,
	} {
		f, err := s.Feed()
		must.Do(t, err)
		must.Do(t, f.Close())
		check(name+", a closed feed", f.Add("x"))
		must.Do(t, s.Close())
		_, err = s.Feed()
		check(name+", a feed", err)
	}
	results := func(name string, err error) { t.Helper(); check(name+", results", err) }
	results("sort", lastError(sorter.Sorted()))
	results("top", lastError(top.Records()))
	results("distinct", lastError(distinct.Records()))
	results("group", lastError(groups.Groups()))
	results("aggregate", lastError(sums.Results()))
	results("partition", lastError(parts.Records("x")))
}

func lastError[T any](seq iter.Seq2[T, error]) (err error) {
	for _, err = range seq {
	}
	return err
}

// TestErrorsNameShuffle checks that errors begin with the package's name, wrap a sentinel, and count what the caller
// has opened: feeds, even if several of them share a table.
func TestErrorsNameShuffle(t *testing.T) {
	ctx := t.Context()
	identity := func(s string) string { return s }
	by := shuffle.By(shuffle.Asc(identity))
	options := func(change func(o *shuffle.Options[string])) *shuffle.Options[string] {
		o := *minMemory[string](t)
		o.Threads = 2
		change(&o)
		return &o
	}
	valid := options(func(*shuffle.Options[string]) {})
	_, noMemory := shuffle.NewGrouper(ctx, identity, options(func(o *shuffle.Options[string]) { o.Memory = 1 }))
	_, noThreads := shuffle.NewDeduplicator(ctx, options(func(o *shuffle.Options[string]) { o.Threads = -1 }))
	_, noKey := shuffle.NewSorter(ctx, nil, valid)
	_, noFunction := shuffle.NewAggregator[string, string](ctx, nil, counts, valid)
	_, noCodec := shuffle.DefaultCodec[map[string]int]()
	_, noName := shuffle.Begin(ctx, partd.NewDict(), "", "")
	_, noTasks := shuffle.WaitCommitted(ctx, partd.NewDict(), nil)
	full := partd.NewDict()
	must.Do(t, full.Append(ctx, partd.Entry{Key: "k", Value: []byte("1")}))
	_, notEmpty := shuffle.NewGrouper(ctx, identity, options(func(o *shuffle.Options[string]) { o.Store = full }))
	for name, err := range map[string]error{
		"memory": noMemory, "threads": noThreads, "no sort key": noKey, "no function": noFunction, "no codec": noCodec, "no name": noName,
		"no tasks": noTasks, "a store with keys": notEmpty, "goroutines": shuffle.FeedAll[string](ctx, nil, -1),
	} {
		checkShuffleError(t, name, err, shuffle.ErrArgument, "")
	}

	parts := must.Get(shuffle.Partition(ctx, shuffle.Values("a"), 4, identity, valid))(t)
	noPartition := lastError(parts.Records(4))
	checkShuffleError(t, "no partition", noPartition, shuffle.ErrArgument, "there is no partition 4")
	if strings.Count(fmt.Sprint(noPartition), "shuffle: ") != 1 {
		t.Errorf("the error %v has the prefix twice", noPartition)
	}
	must.Do(t, parts.Close())

	sorter, err1 := shuffle.NewSorter(ctx, by, valid)
	distinct, err2 := shuffle.NewDeduplicator(ctx, valid)
	groups, err3 := shuffle.NewGrouper(ctx, identity, valid)
	must.Do(t, errors.Join(err1, err2, err3))
	for name, c := range map[string]struct {
		feeder  feeder[string]
		results func() error
	}{
		"sort":     {sorter, func() error { return lastError(sorter.Sorted()) }},
		"distinct": {distinct, func() error { return lastError(distinct.Records()) }},
		"group":    {groups, func() error { return lastError(groups.Groups()) }},
	} {
		var feeds []*shuffle.Feed[string]
		for range 5 {
			f := must.Get(c.feeder.Feed())(t)
			feeds = append(feeds, f)
		}
		checkShuffleError(t, name, c.results(), shuffle.ErrOpenFeeds, "still open (5)")
		for _, f := range feeds {
			must.Do(t, f.Close())
		}
		if name == "distinct" {
			must.Do(t, c.results())
			checkShuffleError(t, name+", a second time", c.results(), nil, "only once")
		}
		must.Do(t, c.feeder.Close())
		if _, err := c.feeder.Feed(); name != "sort" { // a sorter returns its first error again
			checkShuffleError(t, name+", closed", err, shuffle.ErrClosed, "closed")
		}
	}
}

func checkShuffleError(t *testing.T, name string, err, want error, text string) {
	t.Helper()
	if err == nil || want != nil && !errors.Is(err, want) || !strings.HasPrefix(err.Error(), "shuffle: ") || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: error = %v, want one that begins with shuffle:, has %q, and wraps %v", name, err, text, want)
	}
}

// TestZeroValues checks that methods of zero values return errors and never panic.
func TestZeroValues(t *testing.T) {
	storetest.CheckZero(t, map[string]any{
		"Aggregator": new(shuffle.Aggregator[int, int, int]), "Deduplicator": new(shuffle.Deduplicator[int]),
		"Grouper": new(shuffle.Grouper[int, int]), "Joiner": new(shuffle.Joiner[int, int, int]), "Partitions": new(shuffle.Partitions[int, int]),
		"Sorter": new(shuffle.Sorter[int]), "Top": new(shuffle.Top[int]), "Feed": new(shuffle.Feed[int]),
		"Writer": new(shuffle.Writer), "Committed": new(shuffle.Committed), "MissingError": new(shuffle.MissingError), "Checksum": new(shuffle.Checksum),
	}, "Close", "Verify", "Unwrap")
	sorter := new(shuffle.Sorter[int])
	must.Fail(t, must.Err(sorter.Feed()), partd.ErrClosed, "Feed() of a zero Sorter")
}

func TestNilArguments(t *testing.T) {
	ctx, in, o := t.Context(), shuffle.Values(2, 1), &shuffle.Options[int]{TempDirs: []string{t.TempDir()}}
	identity := func(v int) int { return v }
	key := shuffle.By(shuffle.Asc(identity))
	sum := shuffle.Accumulator[int, int]{Add: func(total *int, v int) { *total += v }, Merge: func(total, other *int) { *total += *other }}
	partialCodec := &shuffle.Options[int]{Codec: encode.ValueCodec[int]{Encode: func(dst []byte, _ int) ([]byte, error) { return dst, nil }}}
	text := func(key shuffle.Key[string]) error {
		return storetest.FirstError(shuffle.Sort(ctx, shuffle.Values("b", "a"), shuffle.By(key), nil))
	}
	sorter := must.Get(shuffle.NewSorter(ctx, key, o))(t)
	defer sorter.Close()
	grouper := must.Get(shuffle.NewGrouper(ctx, identity, o))(t)
	defer grouper.Close()
	committed := must.Get(shuffle.ReadCommitted(ctx, partd.NewDict()))(t)
	errorOf := func(_ any, err error) error { return err }
	storetest.CheckErrors(t, map[string]func() error{
		"Sort(nil)":          func() error { return storetest.FirstError(shuffle.Sort(ctx, nil, key, o)) },
		"Sort by nil":        func() error { return storetest.FirstError(shuffle.Sort(ctx, in, nil, o)) },
		"Sort by a zero Key": func() error { return storetest.FirstError(shuffle.Sort(ctx, in, make([]shuffle.Key[int], 1), o)) },
		"Sort by Asc(nil)": func() error {
			return storetest.FirstError(shuffle.Sort(ctx, in, shuffle.By(shuffle.Asc[int, int](nil)), o))
		},
		"Sort by Desc(nil)": func() error {
			return storetest.FirstError(shuffle.Sort(ctx, in, shuffle.By(shuffle.Desc[int, int](nil)), o))
		},
		"text by Asc(nil)":  func() error { return text(shuffle.Asc[string, string](nil)) },
		"text by Desc(nil)": func() error { return text(shuffle.Desc[string, string](nil)) },
		"half a codec":      func() error { return storetest.FirstError(shuffle.Sort(ctx, in, key, partialCodec)) },
		"GroupBy(nil)":      func() error { return storetest.FirstError(shuffle.GroupBy(ctx, nil, identity, o)) },
		"GroupBy nil":       func() error { return storetest.FirstError(shuffle.GroupBy[int, int](ctx, in, nil, o)) },
		"Aggregate(nil)":    func() error { return storetest.FirstError(shuffle.Aggregate(ctx, nil, identity, sum, o)) },
		"Aggregate by nil":  func() error { return storetest.FirstError(shuffle.Aggregate[int, int](ctx, in, nil, sum, o)) },
		"a zero Accumulator": func() error {
			return storetest.FirstError(shuffle.Aggregate(ctx, in, identity, shuffle.Accumulator[int, int]{}, o))
		},
		"half a codec of accumulators": func() error {
			acc := sum
			acc.Codec = partialCodec.Codec
			return storetest.FirstError(shuffle.Aggregate(ctx, in, identity, acc, o))
		},
		"Distinct(nil)":            func() error { return storetest.FirstError(shuffle.Distinct(ctx, nil, o)) },
		"DistinctBy(nil)":          func() error { return storetest.FirstError(shuffle.DistinctBy(ctx, nil, identity, o)) },
		"DistinctBy nil":           func() error { return storetest.FirstError(shuffle.DistinctBy[int, int](ctx, in, nil, o)) },
		"TopK(nil)":                func() error { return storetest.FirstError(shuffle.TopK(ctx, nil, 1, key, o)) },
		"TopK by nil":              func() error { return storetest.FirstError(shuffle.TopK(ctx, in, 1, nil, o)) },
		"Join(nil)":                func() error { return storetest.FirstError(shuffle.Join(ctx, nil, in, identity, identity, nil)) },
		"Join with nil":            func() error { return storetest.FirstError(shuffle.Join(ctx, in, nil, identity, identity, nil)) },
		"Join by nil":              func() error { return storetest.FirstError(shuffle.Join[int, int, int](ctx, in, in, nil, nil, nil)) },
		"Partition(nil)":           func() error { return errorOf(shuffle.Partition(ctx, nil, 2, identity, o)) },
		"Partition by nil":         func() error { return errorOf(shuffle.Partition[int, int](ctx, in, 2, nil, o)) },
		"PartitionBy(nil)":         func() error { return errorOf(shuffle.PartitionBy(ctx, nil, identity, o)) },
		"PartitionBy nil":          func() error { return errorOf(shuffle.PartitionBy[int, int](ctx, in, nil, o)) },
		"Collect(nil)":             func() error { return errorOf(shuffle.Collect[int](nil)) },
		"FeedAll to nil":           func() error { return shuffle.FeedAll(ctx, nil, 1, in) },
		"FeedAll(nil)":             func() error { return shuffle.FeedAll(ctx, sorter, 1, nil) },
		"ForEach(nil)":             func() error { return grouper.ForEach(ctx, 1, nil) },
		"Begin(nil)":               func() error { return errorOf(shuffle.Begin(ctx, nil, "a", "")) },
		"ReadCommitted(nil)":       func() error { return errorOf(shuffle.ReadCommitted(ctx, nil)) },
		"WaitCommitted(nil)":       func() error { return errorOf(shuffle.WaitCommitted(ctx, nil, &shuffle.WaitOptions{Count: 1})) },
		"ScanPart without a share": func() error { return storetest.FirstError(committed.ScanPart(ctx, 0, 1, nil)) },
	})
}
