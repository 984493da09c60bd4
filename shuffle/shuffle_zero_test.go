package shuffle_test

import (
	"errors"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/storetest"
	"github.com/go-partd/partd/shuffle"
)

// TestZeroValues checks that methods of zero values return errors and never panic.
func TestZeroValues(t *testing.T) {
	storetest.CheckZero(t, map[string]any{
		"Aggregator": new(shuffle.Aggregator[int, int, int]), "Deduplicator": new(shuffle.Deduplicator[int]),
		"Grouper": new(shuffle.Grouper[int, int]), "Joiner": new(shuffle.Joiner[int, int, int]), "Partitions": new(shuffle.Partitions[int, int]),
		"Sorter": new(shuffle.Sorter[int]), "Top": new(shuffle.Top[int]), "Feed": new(shuffle.Feed[int]),
		"Writer": new(shuffle.Writer), "Committed": new(shuffle.Committed), "MissingError": new(shuffle.MissingError), "Checksum": new(shuffle.Checksum),
	}, "Close", "Verify", "Unwrap")
	sorter := new(shuffle.Sorter[int])
	if _, err := sorter.Feed(); !errors.Is(err, partd.ErrClosed) {
		t.Errorf("Feed() of a zero Sorter: error = %v, want %v", err, partd.ErrClosed)
	}
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
