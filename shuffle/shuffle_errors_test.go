package shuffle_test

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"strings"
	"testing"

	"github.com/go-partd/partd"
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
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		t.Fatal(err)
	}
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
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		check(name+", a closed feed", f.Add("x"))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
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
