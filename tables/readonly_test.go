package tables_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
)

// TestFingerprintWaits checks that a read-only open waits until another change of the catalog would change its
// modification time, also if the file system stores only seconds, or a file server's clock is ahead.
func TestFingerprintWaits(t *testing.T) {
	for name, c := range map[string]struct {
		mtime     time.Time
		min, soon time.Duration
	}{
		"fine":    {time.Now().Truncate(time.Second).Add(time.Nanosecond), 0, time.Second},
		"seconds": {time.Now().Truncate(time.Second).Add(-time.Second), time.Second - 50*time.Millisecond, time.Hour},
		"ahead":   {time.Now().Add(time.Hour).Truncate(time.Second).Add(time.Nanosecond), 20 * time.Millisecond, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), tables.CatalogFile)
			must.Do(t, os.WriteFile(path, nil, 0o600))
			must.Do(t, os.Chtimes(path, c.mtime, c.mtime))
			start := time.Now()
			_ = must.Get(tables.CatalogFingerprint(t.Context(), filepath.Dir(path)))(t)
			if d := time.Since(start); d < c.min || d > c.soon {
				t.Errorf("the fingerprint took %v, want %v to %v", d, c.min, c.soon)
			}
		})
	}
}
