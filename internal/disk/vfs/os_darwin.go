package vfs

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// processStart returns the start time of a process and the boot session, which distinguish it from
// other processes with the same PID. It returns "" if the process does not exist.
func processStart(pid int) string {
	p, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return ""
	}
	return fmt.Sprint(p.Proc.P_starttime.Sec, " ", p.Proc.P_starttime.Usec, " ", BootSession())
}

// BootSession returns a string that stays the same until the machine restarts, or "" if the system
// does not provide one.
func BootSession() string {
	id, err := syscall.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ""
	}
	return id
}

func infoOf(st *syscall.Stat_t) Info {
	return Info{
		Size: st.Size, Disk: st.Blocks * 512, Links: uint64(st.Nlink), Dev: uint64(st.Dev), Ino: st.Ino, Mode: modeOf(uint32(st.Mode)),
		MTime: st.Mtimespec.Nano(), CTime: st.Ctimespec.Nano(),
	}
}

func networkOf(st *syscall.Statfs_t) string {
	if st.Flags&unix.MNT_LOCAL == 0 {
		return "a network file system"
	}
	return ""
}
