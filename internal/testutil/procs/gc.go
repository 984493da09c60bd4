package procs

import (
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// CollectLess makes garbage collections rarer, because they take half of the time of tests that allocate much and keep
// little. A TestMain calls it. It does nothing in a process that plays a role, or if GOGC is set. Tests that measure
// the heap set their own percentage.
func CollectLess() {
	if os.Getenv(roleEnv) == "" && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

// Main is the body of the TestMain of a package whose tests play no roles and do not test the disk.
func Main(m *testing.M) {
	CollectLess()
	TempInMemory()
	os.Exit(m.Run())
}

// Allocated returns the number of bytes that the process allocates while f runs.
func Allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Heap returns the bytes of the heap, with garbage.
func Heap() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// HeapPeak returns the largest growth of the heap while f runs. It collects garbage often, so that garbage hardly adds to
// the growth.
func HeapPeak(f func()) int64 {
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	runtime.GC()
	stop := TrackPeak(2*time.Millisecond, Heap)
	f()
	return stop()
}

// TrackPeak measures how much a usage, such as the size of the heap, grows: it calls usage now, at the given interval,
// and when the returned function is called, which returns the largest growth since the first call.
func TrackPeak(interval time.Duration, usage func() int64) (stop func() int64) {
	start, growth := usage(), int64(0)
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for isLast := false; !isLast; growth = max(growth, usage()-start) {
			select {
			case <-stopping:
				isLast = true
			case <-time.After(interval):
			}
		}
	}()
	return func() int64 {
		close(stopping)
		<-stopped
		return growth
	}
}
