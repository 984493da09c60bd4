package partd

import (
	"syscall"
	"testing"
)

func fileTmpfs(t *testing.T, _ string) string {
	t.Helper()
	fileRequire(t, false, "tmpfs, which only Linux has")
	return ""
}

func fileRemountReadOnly(string) error { return syscall.ENOTSUP }
