package remote

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-partd/partd"
)

// undivided is a store behind a server that does not support parts.
type undivided struct {
	*partd.Dict
	asked atomic.Int64
}

func (u *undivided) ScanPart(ctx context.Context, _, parts int) iter.Seq2[partd.Chunk, error] {
	if parts == 1 {
		return u.Scan(ctx)
	}
	u.asked.Add(1)
	return func(yield func(partd.Chunk, error) bool) {
		yield(partd.Chunk{}, fmt.Errorf("scan of part: %w", errors.ErrUnsupported))
	}
}

// TestPartsOfAnOlderServer reads everything from a server that cannot divide its keys,
// and skips the other parts. All readers agree on the parts.
func TestPartsOfAnOlderServer(t *testing.T) {
	ctx := context.Background()
	store := &undivided{Dict: partd.NewDict()}
	_, url := serve(t, store, nil)
	for i := range 100 {
		must(t, store.Append(ctx, entry(fmt.Sprint("key ", i), "value")))
	}
	seen := map[string]int{}
	for part := range 4 {
		n := 0
		for chunk, err := range dial(t, url, nil).ScanPart(ctx, part, 4) {
			must(t, err)
			seen[chunk.Key]++
			n++
		}
		if n < 10 {
			t.Errorf("part %d has %d keys", part, n)
		}
	}
	for key, n := range seen {
		if n != 1 {
			t.Errorf("key %q is in %d parts", key, n)
		}
	}
	if len(seen) != 100 || store.asked.Load() != 4 {
		t.Errorf("%d keys, %d scans", len(seen), store.asked.Load())
	}
}

// TestPartsOfStoreWithoutScan checks the error for a store that cannot scan.
func TestPartsOfStoreWithoutScan(t *testing.T) {
	_, url := serve(t, struct{ partd.Partd }{partd.NewDict()}, nil)
	n := 0
	for _, err := range dial(t, url, nil).ScanPart(t.Context(), 1, 4) {
		if n++; !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
	}
	if n != 1 {
		t.Errorf("%d items", n)
	}
}

// asked is a store that records the requested parts.
type asked struct {
	*partd.Dict
	mu    sync.Mutex
	whole int
	parts []string
}

func (a *asked) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.whole++
	return a.Dict.Scan(ctx)
}

func (a *asked) ScanPart(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.parts = append(a.parts, fmt.Sprintf("%d/%d", part, parts))
	return a.Dict.ScanPart(ctx, part, parts)
}

// TestServerScansOnlyThePart checks that the store divides its keys, so that other
// parts are neither read nor sent.
func TestServerScansOnlyThePart(t *testing.T) {
	ctx := context.Background()
	store := &asked{Dict: partd.NewDict()}
	_, url := serve(t, store, nil)
	for i := range 200 {
		must(t, store.Append(ctx, entry(fmt.Sprint("key ", i), "value")))
	}
	c, keys := dial(t, url, nil), 0
	for part := range 4 {
		for chunk, err := range c.ScanPart(ctx, part, 4) {
			if must(t, err); chunk.Last {
				keys++
			}
		}
	}
	store.mu.Lock()
	defer store.mu.Unlock()
	if got := fmt.Sprint(store.parts); keys != 200 || got != "[0/4 1/4 2/4 3/4]" || store.whole != 0 {
		t.Errorf("%d keys of the parts %s, and %d scans of everything", keys, got, store.whole)
	}
}
