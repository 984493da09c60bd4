package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A place of backups that is not there is an error, and is not made, where it is read.
func TestPullBackupsNoPlace(t *testing.T) {
	t.Parallel()
	place := filepath.Join(t.TempDir(), "typo")
	var out, errs strings.Builder
	if code := run(t.Context(), []string{"pull", "backups", "--from", place}, &app{in: os.Stdin, out: &out, err: &errs}); code == 0 || !strings.Contains(errs.String(), place) {
		t.Errorf("%d, %q, %q", code, out.String(), errs.String())
	}
	if _, err := os.Stat(place); err == nil {
		t.Error("the place was made")
	}
}
