//go:build unix

package cli

import "syscall"

// restrictNewFiles sets the umask until restore is called, so that new files and directories are
// inaccessible to other users and read-only for the group.
func restrictNewFiles() (restore func()) {
	oldMask := syscall.Umask(0o077) // the umask can be read only by setting it
	syscall.Umask(oldMask | 0o027)
	return func() { syscall.Umask(oldMask) }
}
