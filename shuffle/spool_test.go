package shuffle_test

import (
	"context"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/shuffle"
)

// costStore records the size of the largest batch. It calculates sizes as a log store does.
type costStore struct {
	*partd.Dict
	maxCost, appends int
}

func (s *costStore) Append(ctx context.Context, entries ...partd.Entry) error {
	cost := 0
	for _, e := range entries {
		cost += len(e.Key) + len(e.Value) + 24
	}
	s.maxCost, s.appends = max(s.maxCost, cost), s.appends+1
	return s.Dict.Append(ctx, entries...)
}

// TestBatchesFitTheMemory checks that batches have at most a 32nd of the store's memory. A log store
// writes a larger batch as a separate segment. Merging thousands of segments took twenty times as long
// as grouping.
func TestBatchesFitTheMemory(t *testing.T) {
	s := &costStore{Dict: partd.NewDict()}
	o := &shuffle.Options[[14]uint64]{Memory: shuffle.MinMemory, Store: s}
	in := func(yield func([14]uint64, error) bool) {
		for i := range uint64(20_000) {
			if !yield([14]uint64{i % 100, i}, nil) {
				return
			}
		}
	}
	for g, err := range shuffle.GroupBy(t.Context(), in, func(r [14]uint64) uint64 { return r[0] }, o) {
		must.Do(t, err)
		must.Do(t, readAll(g.Values))
	}
	const limit = shuffle.MinMemory * 3 / 4 / 32
	if s.appends < 10 || s.maxCost >= limit {
		t.Errorf("got %d batches, of which the largest has %d bytes; want at least 10 batches of less than %d bytes", s.appends, s.maxCost, limit)
	}
}
