package partd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkDictAppend appends batches of 1,000 entries of 100 bytes to random keys in one goroutine.
func BenchmarkDictAppend(b *testing.B) {
	for _, keys := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			benchAppend(b, keys, func() Partd { return NewDict() })
		})
	}
}

func benchAppend(b *testing.B, keys int, open func() Partd) {
	const batch, total = 1000, 2_000_000
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprintf("key%08d", i)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	batches := make([][]Entry, min(max(100, 4*keys/batch), 4000)) // enough for all keys
	value := make([]byte, 100)
	for i := range batches {
		batches[i] = make([]Entry, batch)
		for j := range batches[i] {
			batches[i][j] = Entry{Key: names[rng.IntN(keys)], Value: value}
		}
	}
	ctx := context.Background()
	b.SetBytes(100 * total)
	for b.Loop() {
		d := open()
		for i := range total / batch {
			if err := d.Append(ctx, batches[i%len(batches)]...); err != nil {
				b.Fatal(err)
			}
		}
		if err := Close(ctx, d); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*total/b.Elapsed().Seconds()/1e6, "Mentries/s")
}
