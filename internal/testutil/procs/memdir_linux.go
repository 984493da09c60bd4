package procs

import (
	"os"
	"syscall"
)

// TempInMemory makes t.TempDir use /dev/shm if it has at least 4 GiB of free space and TMPDIR is
// unset. A TestMain calls it if its tests sync many files and do not test the disk.
func TempInMemory() {
	var s syscall.Statfs_t
	if os.Getenv("TMPDIR") != "" || syscall.Statfs("/dev/shm", &s) != nil || s.Bavail*uint64(s.Bsize) < 4<<30 {
		return
	}
	if err := os.Setenv("TMPDIR", "/dev/shm"); err != nil {
		panic(err)
	}
}
