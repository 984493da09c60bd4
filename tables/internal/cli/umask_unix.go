//go:build unix

package cli

import "syscall"

// restrictNewFiles makes files and directories that this process and its children create
// inaccessible to other users, and read-only to the group, until restore is called.
func restrictNewFiles() (restore func()) {
	oldMask := syscall.Umask(0o077)
	syscall.Umask(oldMask | 0o027)
	return func() { syscall.Umask(oldMask) }
}
