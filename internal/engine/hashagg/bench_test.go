package hashagg

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkGet computes counts and sums by random keys, in a table and, for comparison, in a Go map.
func BenchmarkGet(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		keys := make([][]byte, n)
		for i := range keys {
			keys[i] = fmt.Appendf(nil, "k%d", i)
		}
		// Make the keys contiguous in memory, as in a file.
		order := make([][]byte, 1<<20)
		text := make([]byte, 0, 16*len(order))
		for i := range order {
			start := len(text)
			text = append(text, keys[rand.IntN(n)]...)
			order[i] = text[start:]
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
			defer cpuTime(b)()
			for i := range b.N {
				state, _, err := table.Get(order[i&(1<<20-1)])
				if err != nil {
					b.Fatal(err)
				}
				state[0]++
				state[1] += uint64(i)
			}
		})
		b.Run(fmt.Sprintf("many/%d", n), func(b *testing.B) {
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
			if err := table.GetMany(keys, func(int, []uint64, bool) {}); err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			defer cpuTime(b)()
			for i := 0; i < b.N; i += 256 {
				start := i & (1<<20 - 1)
				if err := table.GetMany(order[start:start+256], func(i int, state []uint64, _ bool) {
					state[0]++
					state[1] += uint64(i)
				}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("map/%d", n), func(b *testing.B) {
			m := make(map[string]*[2]uint64)
			for _, k := range keys {
				m[string(k)] = new([2]uint64)
			}
			b.ResetTimer()
			defer cpuTime(b)()
			for i := range b.N {
				state := m[string(order[i&(1<<20-1)])]
				state[0]++
				state[1] += uint64(i)
			}
		})
	}
}

// cpuTime reports the processor time, which other programs affect less than the elapsed time.
func cpuTime(b *testing.B) func() {
	start := cpu()
	return func() { b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op") }
}

func cpu() int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
