//go:build !race

// The race detector uses additional memory.

package shuffle_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/shuffle"
)

const childEnv = "PARTD_TEST_SHUFFLE"

// memoryOps are the operations that child processes run. The records of each operation are 8 times
// as large as its memory.
var memoryOps = map[string]func(ctx context.Context, in iter.Seq2[wideRecord, error], o *shuffle.Options[wideRecord]) error{
	"sort": func(ctx context.Context, in iter.Seq2[wideRecord, error], o *shuffle.Options[wideRecord]) error {
		return readAll(shuffle.Sort(ctx, in, shuffle.By(shuffle.Asc(func(w wideRecord) uint64 { return w.Key })), o))
	},
	"group with many threads": func(ctx context.Context, in iter.Seq2[wideRecord, error], o *shuffle.Options[wideRecord]) error {
		o.Threads = 200
		return readAll(shuffle.GroupBy(ctx, in, func(w wideRecord) uint64 { return w.Number % 1000 }, o))
	},
	"group, one key has half": func(ctx context.Context, in iter.Seq2[wideRecord, error], o *shuffle.Options[wideRecord]) error {
		half := func(w wideRecord) uint64 {
			if w.Number%2 == 0 {
				return 0
			}
			return w.Key
		}
		largest := 0
		for g, err := range shuffle.GroupBy(ctx, in, half, o) {
			if err != nil {
				return err
			}
			n := 0
			for _, err := range g.Values {
				if err != nil {
					return err
				}
				n++
			}
			largest = max(largest, n)
		}
		if largest < wideRecordCount/2 {
			return errors.New("no group has half of the records")
		}
		return nil
	},
	"groups read by several goroutines": func(ctx context.Context, in iter.Seq2[wideRecord, error], o *shuffle.Options[wideRecord]) error {
		// Group the records into a thousand groups larger than a batch, and one with half of the records.
		g, err := shuffle.NewGrouper(ctx, func(w wideRecord) uint64 { return w.Number % 2 * (1 + w.Key%1000) }, o)
		if err != nil {
			return err
		}
		defer g.Close()
		if err := shuffle.FeedAll(ctx, g, 2, everyNth(in, 2, 0), everyNth(in, 2, 1)); err != nil {
			return err
		}
		return g.ForEach(ctx, 64, func(_ context.Context, g shuffle.Group[uint64, wideRecord]) error { return readAll(g.Values) })
	},
	"aggregate, all keys differ": func(ctx context.Context, in iter.Seq2[wideRecord, error], o *shuffle.Options[wideRecord]) error {
		identity := func(w wideRecord) wideRecord { return w }
		acc := shuffle.Accumulator[wideRecord, int]{Add: func(n *int, _ wideRecord) { *n++ }, Merge: func(n, o *int) { *n += *o }}
		return readAll(shuffle.Aggregate(ctx, in, identity, acc, o))
	},
	"distinct by key": func(ctx context.Context, in iter.Seq2[wideRecord, error], o *shuffle.Options[wideRecord]) error {
		return readAll(shuffle.DistinctBy(ctx, in, func(w wideRecord) uint64 { return w.Key }, o))
	},
}

// everyNth yields the records whose number modulo n is remainder.
func everyNth(in iter.Seq2[wideRecord, error], n, remainder uint64) iter.Seq2[wideRecord, error] {
	return func(yield func(wideRecord, error) bool) {
		for w, err := range in {
			if w.Number%n == remainder && !yield(w, err) {
				return
			}
		}
	}
}

// wideRecord is a record of 112 bytes.
type wideRecord struct {
	Key, Number uint64
	Filler      [12]uint64
}

const (
	wideMemory      = 8 << 20
	wideRecordCount = 8 * wideMemory / 112
)

func wideInput(yield func(wideRecord, error) bool) {
	x := uint64(88172645463325252)
	for i := range uint64(wideRecordCount) {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		if !yield(wideRecord{Key: x, Number: i}, nil) {
			return
		}
	}
}

// TestMemory compares the peak memory of child processes with a limit.
func TestMemory(t *testing.T) {
	if name := os.Getenv(childEnv); name != "" {
		debug.SetMemoryLimit(wideMemory/4 + 20<<20)
		must.Do(t, memoryOps[name](t.Context(), wideInput, &shuffle.Options[wideRecord]{Memory: wideMemory, Threads: 2, TempDirs: []string{t.TempDir()}}))
		status := must.Get(os.ReadFile("/proc/self/status"))(t)
		fmt.Println(string(status))
		return
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		procs.Skip(t, "needs /proc with VmHWM: %v", err)
	}
	const limit = wideMemory + wideMemory/10 + 30<<20
	for name := range memoryOps {
		// On a busy machine, the garbage collector may fall behind, so use the minimum of six runs.
		minPeak := int64(math.MaxInt64)
		for range 6 {
			if minPeak = min(minPeak, peakOf(t, name)); minPeak <= limit {
				break
			}
		}
		t.Logf("%s: %d MiB", name, minPeak>>20)
		if minPeak > limit {
			t.Errorf("%s: the peak memory is %d MiB, want at most %d MiB", name, minPeak>>20, limit>>20)
		}
	}
}

// peakOf returns the peak memory, in bytes, of a process that runs one of memoryOps.
func peakOf(t *testing.T, name string) int64 {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestMemory$")
	cmd.Env = append(os.Environ(), childEnv+"="+name, "GOGC=100")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the child process for %s: %v\n%s", name, err, out)
	}
	_, rest, _ := strings.Cut(string(out), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatalf("the child process did not print VmHWM: %v\n%s", err, out)
	}
	return kib << 10
}

// TestPartitionKeepsKeyBuffer checks that a feed reuses the buffer of a long key.
func TestPartitionKeepsKeyBuffer(t *testing.T) {
	p := must.Get(shuffle.NewPartitions(t.Context(), 4, func(s string) string { return s }, nil))(t)
	defer p.Close()
	f := must.Get(p.Feed())(t)
	defer f.Close()
	v := strings.Repeat("long", 100)
	if n := testing.AllocsPerRun(200, func() { _ = f.Add(v) }); n >= 1 {
		t.Errorf("Add() makes %v allocations per record, want 0", n)
	}
}
