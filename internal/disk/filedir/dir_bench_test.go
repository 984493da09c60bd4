package filedir_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/go-partd/partd"
)

func BenchmarkFileAppend(b *testing.B) {
	for _, keys := range []int{1, 1000, 10_000} {
		for _, sync := range []bool{false, true} {
			if sync && keys > 1000 {
				continue // each batch would take seconds
			}
			b.Run(fmt.Sprintf("keys=%d/sync=%v", keys, sync), func(b *testing.B) {
				fileBenchAppend(b, keys, &partd.FileOptions{Sync: sync})
			})
		}
	}
}

func fileBenchAppend(b *testing.B, keys int, opts *partd.FileOptions) {
	f, err := partd.OpenFile(b.TempDir(), opts)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	entries := make([]partd.Entry, keys)
	for i := range entries {
		entries[i] = partd.Entry{Key: fmt.Sprintf("key%d", i), Value: make([]byte, 100)}
	}
	ctx := context.Background()
	if err := f.Append(ctx, entries...); err != nil { // creates the files
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(100 * keys))
	b.ResetTimer()
	for range b.N {
		if err := f.Append(ctx, entries...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(keys)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mentries/s")
}

func BenchmarkFileGet(b *testing.B) {
	f, err := partd.OpenFile(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	ctx := context.Background()
	var keys []string
	for i := range 1000 {
		keys = append(keys, fmt.Sprintf("key%d", i))
		if err := f.Append(ctx, partd.Entry{Key: keys[i], Value: make([]byte, 100_000)}); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(100_000)
	b.ResetTimer()
	for i := range b.N {
		if _, err := f.Get(ctx, keys[i%len(keys)]); err != nil {
			b.Fatal(err)
		}
	}
}
