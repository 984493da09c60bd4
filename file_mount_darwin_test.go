package partd

import (
	"syscall"
	"testing"
)

func fileTmpfs(t *testing.T, _ string) string {
	t.Helper()
	t.Skip("needs tmpfs, which Linux has")
	return ""
}

func fileRemountReadOnly(string) error { return syscall.ENOTSUP }
