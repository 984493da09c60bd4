package remote

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/go-partd/partd"
)

func makeBatch(n int) []partd.Entry {
	entries := make([]partd.Entry, n)
	for i := range entries {
		entries[i] = partd.Entry{Key: fmt.Sprintf("key-%06d", i), Value: make([]byte, 100)}
		binary.LittleEndian.PutUint64(entries[i].Value, uint64(i))
	}
	return entries
}

// BenchmarkAppend appends batches of 1,000 entries of 100 bytes over several connections, with some drops.
func BenchmarkAppend(b *testing.B) {
	for _, clients := range []int{1, 4} {
		b.Run(fmt.Sprintf("connections=%d", clients), func(b *testing.B) {
			_, url := serve(b, partd.NewDict(), nil)
			entries := makeBatch(1000)
			b.SetBytes(100 * 1000)
			b.ReportAllocs()
			ctx := context.Background()
			work := make(chan int, clients)
			done := make(chan error)
			for range clients {
				c := dial(b, url, nil)
				go func() {
					var err error
					for i := range work {
						if i%5000 == 4999 {
							err = c.Drop(ctx)
						}
						if err == nil {
							err = c.Append(ctx, entries...)
						}
					}
					done <- err
				}()
			}
			b.ResetTimer()
			for i := range b.N {
				work <- i
			}
			close(work)
			for range clients {
				must(b, <-done)
			}
		})
	}
}

func BenchmarkLargeValues(b *testing.B) {
	ctx := context.Background()
	value := make([]byte, 1<<20)
	for i := range value {
		value[i] = byte(i)
	}
	b.Run("append", func(b *testing.B) {
		_, url := serve(b, partd.NewDict(), nil)
		c := dial(b, url, nil)
		b.SetBytes(1 << 20)
		for i := range b.N {
			if i%500 == 499 {
				must(b, c.Drop(ctx))
			}
			must(b, c.Append(ctx, partd.Entry{Key: "k", Value: value}))
		}
	})
	b.Run("get", func(b *testing.B) {
		_, url := serve(b, partd.NewDict(), nil)
		c := dial(b, url, nil)
		must(b, c.Append(ctx, partd.Entry{Key: "k", Value: value}))
		b.SetBytes(1 << 20)
		for range b.N {
			_, err := c.Get(ctx, "k")
			must(b, err)
		}
	})
}
