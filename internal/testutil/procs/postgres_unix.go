//go:build unix

package procs

import (
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// runAs makes cmd run as the user postgres if this process runs as root, which PostgreSQL rejects.
func runAs(cmd *exec.Cmd) {
	u, err := user.Lookup("postgres")
	if os.Getuid() != 0 || err != nil {
		return
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}
