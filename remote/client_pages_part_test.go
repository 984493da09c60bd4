package remote

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"

	"github.com/go-partd/partd"
)

// TestPartsOfStoreWithoutScan checks the error for a store that cannot scan.
func TestPartsOfStoreWithoutScan(t *testing.T) {
	_, url := serve(t, struct{ partd.Partd }{partd.NewDict()}, nil)
	n := 0
	for _, err := range dial(t, url, nil).ScanPart(t.Context(), 1, 4) {
		if n++; !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("ScanPart yielded the error %v, want ErrUnsupported", err)
		}
	}
	if n != 1 {
		t.Errorf("ScanPart yielded %d items, want one error", n)
	}
}

// scanRecorder is a store that records its scans.
type scanRecorder struct {
	*partd.Dict
	mu        sync.Mutex
	fullScans int      // number of scans of all keys
	parts     []string // scanned parts
}

func (a *scanRecorder) Scan(ctx context.Context) iter.Seq2[partd.Chunk, error] {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fullScans++
	return a.Dict.Scan(ctx)
}

func (a *scanRecorder) ScanPart(ctx context.Context, part, parts int) iter.Seq2[partd.Chunk, error] {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.parts = append(a.parts, fmt.Sprintf("%d/%d", part, parts))
	return a.Dict.ScanPart(ctx, part, parts)
}

// TestServerScansOnlyThePart checks that the server's store divides its keys, so that only one part is read and
// sent.
func TestServerScansOnlyThePart(t *testing.T) {
	ctx := context.Background()
	store := &scanRecorder{Dict: partd.NewDict()}
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
	if got := fmt.Sprint(store.parts); keys != 200 || got != "[0/4 1/4 2/4 3/4]" || store.fullScans != 0 {
		t.Errorf("got %d keys from the parts %s and %d scans of all keys, want 200 keys from the parts 0/4 to 3/4", keys, got, store.fullScans)
	}
}
