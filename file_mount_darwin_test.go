package partd

import (
	"syscall"
	"testing"
)

func fileTmpfs(t *testing.T, _ string) string {
	t.Helper()
	fileNeeds(t, false, "tmpfs, which Linux has")
	return ""
}

func fileRemountReadOnly(string) error { return syscall.ENOTSUP }
