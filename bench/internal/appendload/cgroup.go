package appendload

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-partd/partd/bench/internal/program"
)

// LimitMemory moves this process into a new memory cgroup, which also limits the page cache. This
// needs root. After the process has ended, its parent must call RemoveLimit.
func LimitMemory(name string, bytes program.Size) error {
	for _, c := range []struct{ root, limit string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, // cgroup version 1
		{"/sys/fs/cgroup", "memory.max"},
	} {
		dir := filepath.Join(c.root, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, c.limit)); err != nil {
			_ = os.Remove(dir) // this cgroup hierarchy has no memory controller
			continue
		}
		return errors.Join(
			os.WriteFile(filepath.Join(dir, c.limit), fmt.Append(nil, int64(bytes)), 0o644),
			os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, os.Getpid()), 0o644))
	}
	return errors.New("creating a memory cgroup failed: run as root")
}

// RemoveLimit removes the cgroup of a process that has ended.
func RemoveLimit(name string) {
	for _, root := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
		_ = os.Remove(filepath.Join(root, name))
	}
}

// LimitName returns the name of the cgroup of a store.
func LimitName(store string) string { return "partd-bench-" + store }
