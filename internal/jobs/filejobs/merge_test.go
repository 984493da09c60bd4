package filejobs

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestMergeLongRecord checks that the error for a record that is too long for a merge names its line and the limit.
func TestMergeLongRecord(t *testing.T) {
	name := filepath.Join(t.TempDir(), "long.csv")
	must.Do(t, os.WriteFile(name, []byte("n,t\n1,a\n2,"+strings.Repeat("x", 1<<20)+"\n"), 0o666))
	layout := records.Layout{Format: records.CSV}
	_, err := Run(t.Context(), &Options{Files: []string{name, name}, Out: io.Discard, From: layout, To: layout, Memory: 16 << 20, Threads: 2, Temp: []string{t.TempDir()}, Bar: progress.Start(io.Discard, false)}, Sort("n", true))
	if err == nil || !strings.Contains(err.Error(), "long.csv, line 3: too large") || !strings.Contains(err.Error(), "the limit for each file with --merge: increase --memory") {
		t.Errorf("a record of 1 MiB: %v", err)
	}
}
