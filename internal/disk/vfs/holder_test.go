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
		"of an earlier process with this PID": {fmt.Sprintf("process %d on %s (x, since y)\n0%s\n", os.Getpid(), host, own), unknown},
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
		"of another machine with this name":   {fmt.Sprintf("process 7 on %s (x, since y)\n%s0\n", host, own), "in use by process 7 on " + host},
		"of an earlier process with this PID": {fmt.Sprintf("process %d on %s (x, since y)\n0%s\n", os.Getpid(), host, own), ""},
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

// racingFS is a network file system. It runs inBetween, once, after it has opened a claim for reading.
type racingFS struct {
	networkFS
	inBetween *func()
}

func (r racingFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := r.networkFS.OpenFile(name, flag, perm)
	if run := *r.inBetween; run != nil && flag == os.O_RDONLY && strings.HasSuffix(name, claimSuffix) {
		*r.inBetween = nil
		run()
	}
	return f, err
}

// TestClaimsReplacedAtOnce checks that only one of two processes gets the claim if both find that it is stale: here, one
// of them replaces it, or replaces and removes it, after the other has read it.
func TestClaimsReplacedAtOnce(t *testing.T) {
	host, own := must.Get(os.Hostname())(t), processStart(os.Getpid())
	if own == "" {
		t.Skip("this system does not distinguish processes")
	}
	stale := fmt.Sprintf("process %d on %s (x, since y)\n0%s\n", os.Getpid(), host, own)
	winner := fmt.Sprintf("process %d on %s (x, since y)\n%s\n", os.Getppid(), host, processStart(os.Getppid()))
	for name, c := range map[string]struct {
		note     string // the claim's content after the other process has run; "" if the claim is gone
		nextNote string // the content of the other process's next claim, if it has not yet replaced the stale one
		want     error
	}{
		"replaced":             {winner, "", storeerror.ErrInUse},
		"being replaced":       {stale, winner, storeerror.ErrInUse},
		"replaced and removed": {"", "", fs.ErrNotExist},
		"still stale":          {stale, "", nil},
	} {
		lock := filepath.Join(t.TempDir(), "LOCK")
		claim := lock + claimSuffix
		must.Do(t, errors.Join(os.WriteFile(lock, nil, 0o600), os.WriteFile(claim, []byte(stale), 0o600)))
		inBetween := func() {
			must.Do(t, os.WriteFile(claim+".2", []byte(c.note), 0o600))
			must.Do(t, os.Rename(claim+".2", claim))
			if c.note == "" {
				must.Do(t, os.Remove(claim))
			}
			if c.nextNote != "" {
				must.Do(t, os.WriteFile(claim+nextSuffix, []byte(c.nextNote), 0o600))
			}
		}
		must.Fail(t, RecordHolder(racingFS{inBetween: &inBetween}, lock), c.want, "%s", name)
		if c.want != nil {
			if got, _ := os.ReadFile(claim); string(got) != c.note {
				t.Errorf("%s: the claim is now %q, want %q", name, got, c.note)
			}
		} else if got := must.Get(ReadNote(OS{}, claim))(t); !strings.HasSuffix(got, "\n"+own+"\n") {
			t.Errorf("%s: the claim is %q, want that of this process", name, got)
		}
		if _, err := os.Stat(claim + nextSuffix); (err == nil) != (c.nextNote != "") {
			t.Errorf("%s: the next claim: %v", name, err)
		}
	}
}

// readOnlyFS is a snapshot in a network file system.
type readOnlyFS struct{ networkFS }

func (r readOnlyFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	if flag&os.O_RDWR != 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EROFS}
	}
	return r.networkFS.OpenFile(name, flag, perm)
}

// TestClaimInSnapshot checks that a claim in a read-only file system excludes nobody.
func TestClaimInSnapshot(t *testing.T) {
	lock := filepath.Join(t.TempDir(), "LOCK")
	must.Do(t, os.WriteFile(lock+claimSuffix, []byte("process 7 on elsewhere (x, since y)\n1 boot\n"), 0o600))
	must.Do(t, CheckHolder(readOnlyFS{}, lock))
	must.Fail(t, CheckHolder(networkFS{}, lock), storeerror.ErrInUse, "CheckHolder where files can be written")
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
