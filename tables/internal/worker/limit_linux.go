package worker

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
)

// Limit bounds the memory that this process takes, in bytes, beside what it had at
// the first call, which later calls cannot exceed. Where there is no more, what asks
// for it fails, or the process ends.
func Limit(more int64) error {
	had, err := began()
	if err != nil {
		return err
	}
	was := syscall.Rlimit{}
	if err := syscall.Getrlimit(syscall.RLIMIT_DATA, &was); err != nil {
		return err
	}
	most := had + uint64(more)
	if was.Max < 1<<62 {
		return syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: min(most, was.Max), Max: was.Max})
	}
	return syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: most, Max: most})
}

// Grown reports whether the process has so many bytes more than at its first call, in
// memory or of what Limit bounds: what a library frees it may keep.
func Grown(by int64) bool {
	data, err := began()
	first, err2 := resident()
	now, err3 := status("VmRSS")
	bounded, err4 := status("VmData")
	return errors.Join(err, err2, err3, err4) != nil || now > first+uint64(by) || bounded > data+uint64(by)
}

var (
	began    = sync.OnceValues(func() (uint64, error) { return status("VmData") })
	resident = sync.OnceValues(func() (uint64, error) { return status("VmRSS") })
)

// status is a number of bytes that the system has of this process.
func status(name string) (n uint64, err error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "\n"+name+":")
	if _, err := fmt.Sscanf(rest, "%d kB", &n); err != nil {
		return 0, fmt.Errorf("/proc/self/status does not say what %s is", name)
	}
	return n << 10, nil
}

// expendable makes this process the first one that the system ends where it runs
// out of memory, and leaves no dump of it.
func expendable() {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) // where it may
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}
