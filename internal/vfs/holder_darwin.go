package vfs

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// processStart returns what no other process with the number has: when it began. "" is of
// one that there is not.
func processStart(pid int) string {
	p, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return ""
	}
	return fmt.Sprint(p.Proc.P_starttime.Sec, " ", p.Proc.P_starttime.Usec)
}
