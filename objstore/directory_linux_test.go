package objstore

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDirectoryIsDurable creates an object in a new bucket, in a child process under strace. The child
// must sync the object's file, its directory, and every directory that has a new name in it.
func TestDirectoryIsDurable(t *testing.T) {
	const env = "PARTD_TEST_DIRECTORY"
	if dir := os.Getenv(env); dir != "" {
		b, err := OpenDirectory(dir)
		if err == nil {
			err = b.Create(t.Context(), "seg/x", []byte("data"))
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	skip := t.Skipf
	if os.Getenv("PARTD_REQUIRE_ALL") != "" {
		skip = t.Fatalf
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		skip("needs strace: %v", err)
	}
	exe, err := os.Executable()
	must(t, err)
	dir, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	cmd := exec.Command(strace, "-f", "-qq", "-y", "-o", log, "-e", "trace=fsync", exe, "-test.run=^TestDirectoryIsDurable$")
	cmd.Env = append(os.Environ(), env+"="+filepath.Join(dir, "a", "b"))
	if out, err := cmd.CombinedOutput(); strings.Contains(string(out), "ptrace") {
		skip("strace may not trace here: %s", out)
	} else if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	calls, err := os.ReadFile(log)
	must(t, err)
	for _, suffix := range []string{"/a/b/seg/" + tempPrefix, "/a/b/seg>", "/a/b>", "/a>", ">"} {
		if !strings.Contains(string(calls), "<"+dir+suffix) {
			t.Errorf("no fsync of %s%s; the calls were:\n%s", dir, suffix, calls)
		}
	}
}
