package logstore

import (
	"context"
	"fmt"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/compress"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// getCases describe a Get of one key out of 1,000, and its maximum number of allocations,
// including the slice of keys that the caller allocates.
var getCases = []struct {
	name      string
	zstd      bool
	parts     [2]int // number of the key's pieces in a segment, and in the table
	maxAllocs float64
}{
	{"table", false, [2]int{0, 1}, 8},
	{"segment", false, [2]int{1, 0}, 6},
	{"both", false, [2]int{1, 1}, 9},
	{"ten pieces", false, [2]int{5, 5}, 10},
	{"zstd/table", true, [2]int{0, 1}, 12},
	{"zstd/segment", true, [2]int{1, 0}, 10},
	{"zstd/both", true, [2]int{1, 1}, 14},
	{"zstd/ten pieces", true, [2]int{5, 5}, 16},
}

func prepareGet(tb testing.TB, zstd bool, parts [2]int) func() {
	log, err := Open(tb.TempDir(), nil)
	must.Do(tb, err)
	store := partd.Partd(log)
	if zstd {
		if store, err = compress.New(log, compress.Zstd, nil); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Cleanup(func() { must.Check(tb, log.Close()) })
	ctx := context.Background()
	entries := make([]partd.Entry, 1000)
	for i := range entries {
		entries[i] = partd.Entry{Key: fmt.Sprint("key ", i), Value: fmt.Appendf(nil, "%0100d", i)}
	}
	for _, n := range parts {
		must.Do(tb, partd.Flush(ctx, store))
		for range n {
			must.Do(tb, store.Append(ctx, entries...))
		}
	}
	if parts[1] == 0 {
		must.Do(tb, partd.Flush(ctx, store))
	}
	return func() {
		if values, err := store.Get(ctx, "key 500"); err != nil || len(values[0]) != 100*(parts[0]+parts[1]) {
			tb.Fatalf("Get(key 500) = %d bytes, %v, want %d bytes", len(values[0]), err, 100*(parts[0]+parts[1]))
		}
	}
}

func TestGetAllocates(t *testing.T) {
	if procs.RaceEnabled {
		t.Skip("the race detector changes the number of allocations")
	}
	for _, c := range getCases {
		t.Run(c.name, func(t *testing.T) {
			if n := testing.AllocsPerRun(500, prepareGet(t, c.zstd, c.parts)); n > c.maxAllocs {
				t.Errorf("a Get makes %.0f allocations, want at most %.0f", n, c.maxAllocs)
			}
		})
	}
}
