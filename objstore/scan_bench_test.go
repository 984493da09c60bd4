package objstore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// BenchmarkScan reads 100 MB in values of 100 bytes, grouped by key, from a bucket in memory.
func BenchmarkScan(b *testing.B) {
	for _, keys := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			const batches, batch = 1000, 1000
			s, err := Open(b.Context(), new(Memory), nil)
			if err != nil {
				b.Fatal(err)
			}
			random := rand.New(rand.NewPCG(1, 2))
			entries := make([]partd.Entry, batch)
			for range batches {
				for i := range entries {
					entries[i] = partd.Entry{Key: fmt.Sprintf("key %d", random.IntN(keys)), Value: make([]byte, 100)}
				}
				must(b, s.Append(b.Context(), entries...))
			}
			b.SetBytes(batches * batch * 100)
			start, _ := procs.CPU(os.Getpid()) // CPU time depends less on other load than elapsed time
			for b.Loop() {
				for _, err := range s.Scan(b.Context()) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			if end, err := procs.CPU(os.Getpid()); err == nil {
				b.ReportMetric((end-start).Seconds()/float64(b.N), "cpu-s/op")
			}
			must(b, s.Close())
		})
	}
}
