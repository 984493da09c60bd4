package filedir_test

import (
	"syscall"
	"testing"
)

func fileTmpfs(t *testing.T, _ string) string {
	t.Helper()
	fileRequire(t, false, "tmpfs, which exists only on Linux")
	return ""
}

func fileRemountReadOnly(string) error { return syscall.ENOTSUP }
