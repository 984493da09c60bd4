package objstore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestDirectoryIsDurable creates an object in a new bucket, in a child process under strace. The child
// must sync the object's file, its directory, and every directory that has a new name in it.
func TestDirectoryIsDurable(t *testing.T) {
	dir, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	cmd := procs.Strace(t, procs.Command("create", filepath.Join(dir, "a", "b")), log, "-e", "trace=fsync")
	if out, err := cmd.CombinedOutput(); err != nil {
		procs.SkipUntraced(t, string(out))
		t.Fatalf("%v: %s", err, out)
	}
	calls := must.Get(os.ReadFile(log))(t)
	for _, suffix := range []string{"/a/b/seg/" + tempPrefix, "/a/b/seg>", "/a/b>", "/a>", ">"} {
		if !strings.Contains(string(calls), "<"+dir+suffix) {
			t.Errorf("no fsync of %s%s; the calls were:\n%s", dir, suffix, calls)
		}
	}
}
