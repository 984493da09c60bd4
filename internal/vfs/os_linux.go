package vfs

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// processStart returns the start time of a process and the boot ID, which distinguish it from other
// processes with the same PID. It returns "" if the process does not exist.
func processStart(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	boot, bootErr := os.ReadFile("/proc/sys/kernel/random/boot_id")
	const start = 19 // index of the start time among the fields after the command's name, which ends in ")"
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if err != nil || bootErr != nil || len(fields) <= start {
		return ""
	}
	return fields[start] + " " + strings.TrimSpace(string(boot))
}

// infoOf has conversions because some field types differ between architectures.
func infoOf(st *syscall.Stat_t) Info {
	return Info{
		Size: st.Size, Disk: st.Blocks * 512, Links: uint64(st.Nlink), Dev: st.Dev, Ino: st.Ino, Mode: modeOf(st.Mode),
		MTime: int64(st.Mtim.Sec)*1e9 + int64(st.Mtim.Nsec), CTime: int64(st.Ctim.Sec)*1e9 + int64(st.Ctim.Nsec),
	}
}

var _ Puncher = osFile{}

// Flags of fallocate(2).
const keepSize, punchHole = 1, 2

func (f osFile) Punch(off, n int64) error {
	err := retryInterrupted(func() error { return syscall.Fallocate(int(f.Fd()), keepSize|punchHole, off, n) })
	if err != nil {
		return &fs.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
	return nil
}
