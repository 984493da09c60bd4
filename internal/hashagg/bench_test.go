package hashagg

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkGet counts and sums, one table, random keys. A Go map beside it.
func BenchmarkGet(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		keys := make([][]byte, n)
		for i := range keys {
			keys[i] = fmt.Appendf(nil, "k%d", i)
		}
		order := make([]uint32, 1<<20)
		for i := range order {
			order[i] = uint32(rand.IntN(n))
		}
		b.Run(fmt.Sprintf("table/%d", n), func(b *testing.B) {
			a, err := New(context.Background(), Options{Words: 2, Threads: 1, Memory: 512 << 20, Merge: sumWords})
			if err != nil {
				b.Fatal(err)
			}
			defer func() {
				if err := a.Close(); err != nil {
					b.Fatal(err)
				}
			}()
			table, err := a.Table()
			if err != nil {
				b.Fatal(err)
			}
			for _, k := range keys {
				if _, _, err := table.Get(k); err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			for i := range b.N {
				state, _, err := table.Get(keys[order[i&(1<<20-1)]])
				if err != nil {
					b.Fatal(err)
				}
				state[0]++
				state[1] += uint64(i)
			}
		})
		b.Run(fmt.Sprintf("map/%d", n), func(b *testing.B) {
			m := make(map[string]*[2]uint64)
			for _, k := range keys {
				m[string(k)] = new([2]uint64)
			}
			b.ResetTimer()
			for i := range b.N {
				state := m[string(keys[order[i&(1<<20-1)]])]
				state[0]++
				state[1] += uint64(i)
			}
		})
	}
}
