package cloud

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// BenchmarkGateway appends a GB in pieces of 100 bytes and reads it grouped by key: with the default
// memory, and with 64 MiB without and with a disk. It logs the peak memory of the process.
func BenchmarkGateway(b *testing.B) {
	for _, c := range []struct {
		keys    int
		options string
	}{{1000, "512MiB"}, {1_000_000, "512MiB"}, {1_000_000, "64MiB"}, {1_000_000, "64MiB&disk=4GiB"}} {
		keys := c.keys
		b.Run(fmt.Sprintf("keys=%d,memory=%s", keys, c.options), func(b *testing.B) {
			g := startGateway(b)
			const total, pieces = 1 << 30, 1000
			value := make([]byte, 1<<20)
			for i := range len(value) / 8 {
				binary.LittleEndian.PutUint64(value[8*i:], rand.Uint64())
			}
			for n := range b.N {
				url := strings.Replace(g.url(fmt.Sprint("b", n), ""), "memory=16MiB", "memory="+c.options, 1)
				s := openURL(b, url)
				// CPU seconds per GB, because elapsed time depends on the load of the machine.
				cpu := func(b *testing.B, gb float64) func() {
					var before, after [2]time.Duration
					read := func(dst *[2]time.Duration) {
						for i, pid := range []int{os.Getpid(), g.Pid()} {
							var err error
							if dst[i], err = procs.CPU(pid); err != nil {
								b.Skip(err)
							}
						}
					}
					read(&before)
					return func() {
						read(&after)
						gb *= float64(b.N)
						b.ReportMetric((after[0]-before[0]).Seconds()/gb, "client-cpu-s/GB")
						b.ReportMetric((after[1]-before[1]).Seconds()/gb, "gateway-cpu-s/GB")
					}
				}
				b.Run("append", func(b *testing.B) {
					b.SetBytes(total)
					defer cpu(b, total/1e9)()
					random := rand.New(rand.NewPCG(1, 2))
					entries := make([]partd.Entry, pieces)
					for range b.N {
						for range total / 100 / pieces {
							for i := range entries {
								offset := random.IntN(len(value) - 100)
								entries[i] = partd.Entry{Key: fmt.Sprint("key ", random.IntN(keys)), Value: value[offset:][:100]}
							}
							must(b, s.Append(b.Context(), entries...))
						}
						must(b, partd.Flush(b.Context(), s))
					}
				})
				b.Run("read", func(b *testing.B) {
					defer cpu(b, total/1e9)()
					for range b.N {
						bytes := int64(0)
						for c, err := range partd.Scan(b.Context(), s) {
							if err != nil {
								b.Fatal(err)
							}
							bytes += int64(len(c.Data))
						}
						b.SetBytes(bytes)
					}
				})
				status, err := os.ReadFile("/proc/self/status")
				if err == nil {
					_, peak, _ := strings.Cut(string(status), "VmHWM:")
					peak, _, _ = strings.Cut(peak, "\n")
					b.Logf("peak memory %s, %v", strings.TrimSpace(peak), s.(*Store).Requests())
				}
				must(b, partd.Close(b.Context(), s))
			}
		})
	}
}
