package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPullBackupsMissingDirectory checks that reading backups fails if their location does not exist, and
// does not create it.
func TestPullBackupsMissingDirectory(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "typo")
	var out, errs strings.Builder
	if code := runCommand(t.Context(), []string{"pull", "backups", "--from", missing}, &app{in: os.Stdin, out: &out, err: &errs}); code == 0 || !strings.Contains(errs.String(), missing) {
		t.Errorf("pull backups: exit code %d, stdout %q, stderr %q, want an error with the missing path", code, out.String(), errs.String())
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("pull backups created the missing source directory")
	}
}
