package vfs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestLocksNobody checks that every kind of lock is refused if flock succeeds but locks nothing. A child process has
// such locks.
func TestLocksNobody(t *testing.T) {
	dir := os.Getenv("PARTD_TEST_LOCK_IN")
	if dir == "" {
		dir = t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=^TestLocksNobody$", "-test.v")
		cmd.Env = append(os.Environ(), "PARTD_TEST_LOCK_IN="+dir)
		cmd = procs.Strace(t, cmd, filepath.Join(t.TempDir(), "log"), "-e", "trace=flock", "-e", "inject=flock:retval=0")
		out, err := cmd.CombinedOutput()
		procs.SkipUntraced(t, string(out))
		if err != nil || !strings.Contains(string(out), "PASS: TestLocksNobody") {
			t.Errorf("the child: %v: %s", err, out)
		}
		return
	}
	file := filepath.Join(dir, "lock")
	for name, l := range map[string]Lock{
		"a file": OS{}.NewLock(file), "a private file": PrivateLocks{}.NewLock(file), "a directory": DirLocks{}.NewLock(dir),
	} {
		for _, exclusive := range []bool{false, true} {
			if ok, err := l.TryLock(exclusive); ok || !errors.Is(err, ErrLocksNobody) || !strings.Contains(err.Error(), dir) {
				t.Errorf("TryLock(%v) of %s = %v, %v, want ErrLocksNobody", exclusive, name, ok, err)
			}
			if err := l.Lock(exclusive); !errors.Is(err, ErrLocksNobody) {
				t.Errorf("Lock(%v) of %s = %v, want ErrLocksNobody", exclusive, name, err)
			}
		}
	}
}

// TestCheckExcludes checks that the check keeps the lock, and accepts a lock whose file was replaced.
func TestCheckExcludes(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	for _, exclusive := range []bool{false, true} {
		l, other := OS{}.NewLock(name), OS{}.NewLock(name)
		if ok, err := l.TryLock(exclusive); !ok || err != nil {
			t.Fatalf("TryLock(%v) = %v, %v", exclusive, ok, err)
		}
		if ok, err := other.TryLock(true); ok || err != nil {
			t.Errorf("TryLock(true) next to TryLock(%v) = %v, %v", exclusive, ok, err)
		}
		if ok, err := other.TryLock(false); ok == exclusive || err != nil {
			t.Errorf("TryLock(false) next to TryLock(%v) = %v, %v", exclusive, ok, err)
		}
		must.Do(t, errors.Join(other.Unlock(), l.Unlock()))
	}
	f := must.Get(os.Open(name))(t)
	defer f.Close() //nolint:errcheck // test
	if err := CheckExcludes(name, f.Stat); !errors.Is(err, ErrLocksNobody) {
		t.Errorf("CheckExcludes without a lock = %v, want ErrLocksNobody", err)
	}
	must.Do(t, os.Remove(name))
	must.Do(t, CheckExcludes(name, f.Stat))
	must.Do(t, os.WriteFile(name, nil, 0o600))
	must.Do(t, CheckExcludes(name, f.Stat))
}
