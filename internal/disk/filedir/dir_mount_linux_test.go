package filedir_test

import (
	"syscall"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

func fileTmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size)
	fileRequire(t, err == nil, "permission to mount a tmpfs")
	t.Cleanup(func() { must.Do(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

func fileRemountReadOnly(dir string) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
}
