package tables_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestFirstOpenSynced checks that a power loss during the creation of a Store leaves a tail that can be opened:
// each file's content must be synced before the file gets its final name.
func TestFirstOpenSynced(t *testing.T) {
	t.Parallel()
	dir, calls := t.TempDir(), filepath.Join(t.TempDir(), "calls")
	cmd := procs.Strace(t, procs.Command("synced writes", dir), calls, "-e", "trace=fsync,fdatasync,renameat,renameat2,rename")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killTimer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	_, _ = out.Read(make([]byte, 1)) // the store is open, and the writer prints its first row
	text, err := os.ReadFile(calls)
	_ = out.Close() // ends the writer, which can no longer print
	_ = cmd.Wait()  // fails because the writer could not print
	killTimer.Stop()
	procs.SkipUntraced(t, stderr.String())
	if err != nil {
		t.Fatal(err)
	}
	renamePos := regexp.MustCompile(`rename[^\n]*/tail/MANIFEST"`).FindStringIndex(string(text))
	syncPos := regexp.MustCompile(`f(data)?sync\([^\n]*/tail/MANIFEST\.`).FindStringIndex(string(text))
	if renamePos == nil || syncPos == nil || syncPos[0] > renamePos[0] {
		t.Fatalf("the tail's first manifest was renamed at offset %v and synced at offset %v, want a sync before the rename:\n%s", renamePos, syncPos, text)
	}
}
