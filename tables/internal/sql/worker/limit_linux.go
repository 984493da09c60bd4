package worker

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"syscall"
)

// Limit limits the growth of this process's memory, in bytes, since the first call of Limit or Growth. A later call
// cannot raise the limit. Above the limit, allocations fail or the process ends.
func Limit(growth int64) error {
	initial, err := initialData()
	if err != nil {
		return err
	}
	limit := syscall.Rlimit{}
	if err := syscall.Getrlimit(syscall.RLIMIT_DATA, &limit); err != nil {
		return err
	}
	maximum := initial + uint64(growth)
	if limit.Max < 1<<62 {
		return syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: min(maximum, limit.Max), Max: limit.Max})
	}
	return syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: maximum, Max: maximum})
}

// Growth returns by how many bytes this process has grown since the first call of Limit or Growth: in resident memory
// or in the memory that Limit counts, whichever grew more.
func Growth() int64 {
	data, err := initialData()
	initial, err2 := initialResident()
	resident, err3 := status("VmRSS")
	mapped, err4 := status("VmData")
	if errors.Join(err, err2, err3, err4) != nil {
		return math.MaxInt64
	}
	return max(int64(resident-initial), int64(mapped-data), 0)
}

var (
	initialData     = sync.OnceValues(func() (uint64, error) { return status("VmData") })
	initialResident = sync.OnceValues(func() (uint64, error) { return status("VmRSS") })
)

// status returns a memory statistic of this process, such as VmRSS, in bytes.
func status(name string) (n uint64, err error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, suffix, _ := strings.Cut(string(b), "\n"+name+":")
	if _, err := fmt.Sscanf(suffix, "%d kB", &n); err != nil {
		return 0, fmt.Errorf("/proc/self/status has no %s", name)
	}
	return n << 10, nil
}

// killFirst makes the system kill this process before others if memory runs out. It also disables core dumps.
func killFirst() {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) // may not be permitted
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})   // never fails, because lowering a limit is permitted
}
