package worker

import (
	"errors"
	"os"
	"regexp"
	"strconv"
	"sync"
	"syscall"
)

var dataSize = regexp.MustCompile(`(?m)^VmData:\s*(\d+) kB$`)

// Limit bounds the memory that this process takes, in bytes, beside what it had at
// the first call. Where there is no more, what asks for it fails, or the process
// ends. A later call may only lower it.
func Limit(more int64) error {
	had, err := began()
	if err != nil {
		return err
	}
	most := had + uint64(more)
	return syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: most, Max: most})
}

var began = sync.OnceValues(func() (uint64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	found := dataSize.FindSubmatch(status)
	if found == nil {
		return 0, errors.New("/proc/self/status does not say how much memory the process has")
	}
	kilobytes, err := strconv.ParseUint(string(found[1]), 10, 53)
	return kilobytes << 10, err
})

// expendable makes this process the first one that the system ends where it runs
// out of memory, and leaves no dump of it.
func expendable() {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) // where it may
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}
