package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestHolder checks that a note is trusted only while its process runs.
func TestHolder(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("this system does not distinguish processes")
	}
	host := must.Get(os.Hostname())(t)
	name := filepath.Join(t.TempDir(), "LOCK")
	l := OS{}.NewLock(name)
	if got, err := l.TryLock(true); !got || err != nil {
		t.Fatalf("TryLock() = %v, %v, want true", got, err)
	}
	defer l.Unlock() //nolint:errcheck // test
	must.Do(t, RecordHolder(OS{}, name))
	ownNote := fmt.Sprintf("process %d on %s (%s, since 20", os.Getpid(), host, filepath.Base(os.Args[0]))
	if got := Holder(OS{}, name); !strings.HasPrefix(got, ownNote) {
		t.Errorf("Holder() = %q, want prefix %q", got, ownNote)
	}
	ended := exec.Command("true")
	must.Do(t, ended.Run())
	const unknown = "another process"
	own := processStart(os.Getpid())
	for noteName, c := range map[string]struct{ note, want string }{
		"of an ended process":                 {fmt.Sprintf("process %d on %s (x, since y)\n%s\n", ended.Process.Pid, host, own), unknown},
		"of an earlier process with this PID": {fmt.Sprintf("process %d on %s (x, since y)\n%s0\n", os.Getpid(), host, own), unknown},
		"of another machine":                  {"process 7 on elsewhere (x, since y)\n" + own + "\n", unknown + " (the last holder recorded in " + name + " was process 7 on elsewhere (x, since y))"},
		"without a start time":                {"process 7 on " + host + "\n", unknown + " (the last holder recorded in " + name + " was process 7 on " + host + ")"},
		"truncated":                           {"process 7 on", unknown},
		"unrelated text":                      {"hello\n\n", unknown},
		"with an escape sequence":             {"process 7 on elsewhere\x1b[31m\n\n", unknown},
		"empty":                               {"", unknown},
		"very long":                           {strings.Repeat("process ", 1000), unknown},
	} {
		must.Do(t, writeNote(OS{}, name, 0, c.note))
		if got := Holder(OS{}, name); got != c.want {
			t.Errorf("note %s: Holder() = %q, want %q", noteName, got, c.want)
		}
	}
	must.Do(t, RecordHolder(OS{}, name))
	must.Do(t, ClearHolder(OS{}, name))
	if got := Holder(OS{}, name); got != unknown {
		t.Errorf("after ClearHolder: Holder() = %q, want %q", got, unknown)
	}
	if got := Holder(OS{}, name+".missing"); got != unknown {
		t.Errorf("without a lock file: Holder() = %q, want %q", got, unknown)
	}
}

// networkFS is a network file system: flock may exclude only processes of the same mount.
type networkFS struct{ OS }

func (networkFS) Network(string) string { return "NFS" }

// TestClaim checks which notes in a claim exclude a process, and that only network file systems have claims.
func TestClaim(t *testing.T) {
	host, own := must.Get(os.Hostname())(t), processStart(os.Getpid())
	if own == "" {
		t.Skip("this system does not distinguish processes")
	}
	parent := processStart(os.Getppid())
	for name, c := range map[string]struct{ note, want string }{
		"of a running process":                {fmt.Sprintf("process %d on %s (x, since y)\n%s\n", os.Getppid(), host, parent), "in use by process %d on %s (x, since y), and flock may not exclude all processes on NFS"},
		"of another machine":                  {"process 7 on elsewhere (x, since y)\n" + own + "\n", "in use by process 7 on elsewhere"},
		"of an earlier process with this PID": {fmt.Sprintf("process %d on %s (x, since y)\n%s0\n", os.Getpid(), host, own), ""},
		"of this process":                     {HolderNote(), ""},
		"that is not yet written":             {"", "in use by another process"},
	} {
		lock := filepath.Join(t.TempDir(), "LOCK")
		claim := lock + claimSuffix
		must.Do(t, os.WriteFile(lock, nil, 0o600))
		must.Do(t, os.WriteFile(claim, []byte(c.note), 0o600))
		want := c.want
		if strings.Contains(want, "%d") {
			want = fmt.Sprintf(want, os.Getppid(), host)
		}
		for _, local := range []FS{OS{}, networkFS{}} {
			_, isNetwork := local.(networkFS)
			err := RecordHolder(local, lock)
			if isNetwork && want != "" {
				if !errors.Is(err, storeerror.ErrInUse) || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), "remove "+claim+" if that process has ended") {
					t.Errorf("note %s: RecordHolder = %v, want %q", name, err, want)
				}
				if err := ClearHolder(local, lock); !errors.Is(err, storeerror.ErrInUse) {
					t.Errorf("note %s: ClearHolder = %v, want ErrInUse", name, err)
				}
				if got := string(must.Get(os.ReadFile(claim))(t)); got != c.note {
					t.Errorf("note %s: the claim is now %q", name, got)
				}
				continue
			}
			must.Do(t, err)
			if isNetwork {
				if got := must.Get(ReadNote(OS{}, claim))(t); !strings.HasPrefix(got, fmt.Sprintf("process %d on %s (vfs.test, since ", os.Getpid(), host)) {
					t.Errorf("note %s: the claim is not replaced", name)
				}
			}
			must.Do(t, ClearHolder(local, lock))
			if _, err := os.Stat(claim); errors.Is(err, fs.ErrNotExist) != isNetwork {
				t.Errorf("note %s: after ClearHolder, the claim: %v", name, err)
			}
		}
	}
}

// brokenFS is a network file system that fails to create claims. If isLate is set, it fails to write their notes.
type brokenFS struct {
	networkFS
	isLate bool
}

func (b brokenFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	if !strings.HasSuffix(name, claimSuffix) || flag&os.O_EXCL == 0 {
		return b.networkFS.OpenFile(name, flag, perm)
	}
	if !b.isLate {
		return nil, syscall.EIO
	}
	f, err := b.networkFS.OpenFile(name, flag, perm)
	return brokenFile{f}, err
}

type brokenFile struct{ File }

func (brokenFile) WriteAt([]byte, int64) (int, error) { return 0, syscall.EIO }

// TestBrokenClaim checks that a process that cannot create its claim removes no claim of another process, and that it
// leaves no claim without a note.
func TestBrokenClaim(t *testing.T) {
	lock := filepath.Join(t.TempDir(), "LOCK")
	must.Do(t, os.WriteFile(lock, nil, 0o600))
	must.Fail(t, RecordHolder(brokenFS{isLate: true}, lock), syscall.EIO, "RecordHolder")
	must.Fail(t, must.Err(os.Stat(lock+claimSuffix)), fs.ErrNotExist, "the claim without a note")
	const foreign = "process 7 on elsewhere (x, since y)\n1 boot\n"
	must.Do(t, os.WriteFile(lock+claimSuffix, []byte(foreign), 0o600))
	must.Fail(t, RecordHolder(brokenFS{}, lock), syscall.EIO, "RecordHolder")
	if got := must.Get(os.ReadFile(lock + claimSuffix))(t); string(got) != foreign {
		t.Errorf("the claim of the other process is now %q", got)
	}
}
