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
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/shuffle"
)

// TestTooLarge checks that errors about records that are too large for the memory or for a store wrap
// partd.ErrTooLarge.
func TestTooLarge(t *testing.T) {
	long := shuffle.Values(strings.Repeat("x", 4<<20))
	identity := func(s string) string { return s }
	o := minMemory[string](t)
	for name, run := range map[string]func(ctx context.Context) error{
		"sort": func(ctx context.Context) error {
			return readAll(shuffle.Sort(ctx, long, shuffle.By(shuffle.Asc(identity)), o))
		},
		"top": func(ctx context.Context) error {
			return readAll(shuffle.TopK(ctx, long, 1, shuffle.By(shuffle.Asc(identity)), o))
		},
		"distinct":  func(ctx context.Context) error { return readAll(shuffle.Distinct(ctx, long, o)) },
		"group":     func(ctx context.Context) error { return readAll(shuffle.GroupBy(ctx, long, identity, o)) },
		"aggregate": func(ctx context.Context) error { return readAll(shuffle.Aggregate(ctx, long, identity, counts, o)) },
		"partition": func(ctx context.Context) error {
			p, err := shuffle.PartitionBy(ctx, long, identity, o)
			if err == nil {
				err = p.Close()
			}
			return err
		},
	} {
		if err := run(t.Context()); !errors.Is(err, partd.ErrTooLarge) {
			t.Errorf("%s: error = %v, want %v", name, err, partd.ErrTooLarge)
		}
	}
}

var counts = shuffle.Accumulator[string, int]{
	Add:   func(total *int, _ string) { *total++ },
	Merge: func(total, other *int) { *total += *other },
}

// TestClosed checks that errors of closed values wrap shuffle.ErrClosed, partd.ErrClosed and fs.ErrClosed.
func TestClosed(t *testing.T) {
	type feeder interface {
		Feed() (*shuffle.Feed[string], error)
		Close() error
	}
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
	for name, s := range map[string]feeder{
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
		feeder interface {
			Feed() (*shuffle.Feed[string], error)
			Close() error
		}
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
		checkShuffleError(t, name, c.results(), shuffle.ErrOpenFeeds, "not closed: 5")
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
