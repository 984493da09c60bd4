package vfs

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// processStart returns the start time of a process and the boot ID, which distinguish it from other
// processes with the same PID. It returns "" if the process does not exist.
func processStart(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	boot := BootSession()
	const start = 19 // index of the start time among the fields after the command's name, which ends in ")"
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if err != nil || boot == "" || len(fields) <= start {
		return ""
	}
	return fields[start] + " " + strings.TrimSpace(boot)
}

// BootSession returns a string that stays the same until the machine restarts, or "" if the system
// does not provide one.
func BootSession() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(id)
}

// infoOf has conversions because some field types differ between architectures.
func infoOf(st *syscall.Stat_t) Info {
	return Info{
		Size: st.Size, Disk: st.Blocks * 512, Links: uint64(st.Nlink), Dev: st.Dev, Ino: st.Ino, Mode: modeOf(st.Mode),
		MTime: int64(st.Mtim.Sec)*1e9 + int64(st.Mtim.Nsec), CTime: int64(st.Ctim.Sec)*1e9 + int64(st.Ctim.Nsec),
	}
}

func networkOf(st *syscall.Statfs_t) string {
	switch uint32(st.Type) {
	case unix.NFS_SUPER_MAGIC:
		return "NFS"
	case unix.V9FS_MAGIC:
		return "9P"
	case unix.FUSE_SUPER_MAGIC: // also virtio-fs and sshfs
		return "FUSE"
	case unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		return "SMB"
	}
	return ""
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

var _ Cacher = osFile{}

// control calls withFD with the file's descriptor, unless the file is closed.
func (f osFile) control(withFD func(fd int)) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { withFD(int(fd)) }) // fails only if the file is closed
	}
}

func (f osFile) Prefetch(off, n int64) {
	f.control(func(fd int) { _ = unix.Fadvise(fd, off, n, unix.FADV_WILLNEED) }) // ignore errors, because this is only advice
}

func (f osFile) Evict(off, n int64) {
	f.control(func(fd int) { _ = unix.Fadvise(fd, off, n, unix.FADV_DONTNEED) }) // ignore errors, because this is only advice
}

func (f osFile) WriteBack(off, n int64) {
	page := int64(os.Getpagesize())
	start, end := off/page*page, (off+n)/page*page
	if start < end {
		f.control(func(fd int) { _ = unix.SyncFileRange(fd, start, end-start, unix.SYNC_FILE_RANGE_WRITE) }) // this only starts writing; Sync reports errors
	}
}

func (f osFile) Evicted(off, n int64) int64 {
	return int64(f.cacheStats(off, n).evicted) * int64(os.Getpagesize())
}

// cacheStats contains numbers of pages.
type cacheStats struct{ cached, dirty, writeback, evicted, recentlyEvicted uint64 }

// cacheStats returns zeros if the system does not know the file's pages: cachestat(2) exists since
// Linux 6.5 and does not see the pages of an overlay file system.
func (f osFile) cacheStats(off, n int64) (stats cacheStats) {
	section := struct{ off, n uint64 }{uint64(off), uint64(n)}
	f.control(func(fd int) {
		_, _, _ = unix.Syscall6(unix.SYS_CACHESTAT, uintptr(fd), uintptr(unsafe.Pointer(&section)), uintptr(unsafe.Pointer(&stats)), 0, 0, 0)
	})
	return stats
}
