package tempdir

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	for _, e := range must.Get(os.ReadDir(dir))(t) {
		names = append(names, e.Name())
	}
	return names
}

func mustNew(t *testing.T, parents ...string) *Set {
	t.Helper()
	return must.Get(New(parents, nil))(t)
}

func TestFilesAndDirectories(t *testing.T) {
	parents := []string{t.TempDir(), t.TempDir()}
	s := mustNew(t, parents...)
	if len(names(t, parents[0])) > 0 {
		t.Error("New created a directory before it was needed")
	}
	var files []vfs.File
	for range 4 {
		f := must.Get(s.Create())(t)
		must.Get(f.Write([]byte("data")))(t)
		files = append(files, f)
	}
	for i, parent := range parents { // files have no names
		if got := names(t, filepath.Join(parent, names(t, parent)[0])); len(got) > 0 {
			t.Errorf("directory %d has the files %q, want none", i, got)
		}
	}
	for range 4 {
		d := must.Get(s.Mkdir())(t)
		must.Do(t, os.MkdirAll(filepath.Join(d, "a", "b"), 0o777))
		must.Do(t, os.WriteFile(filepath.Join(d, "a", "file"), nil, 0o600))
	}
	for i, parent := range parents {
		if got := names(t, parent); len(got) != 2 || !strings.HasPrefix(got[0], prefix) {
			t.Errorf("directory %d has %q, want a directory and its lock file", i, got)
		}
	}
	for _, f := range files {
		var b [4]byte
		if _, err := f.ReadAt(b[:], 0); err != nil || string(b[:]) != "data" {
			t.Errorf("ReadAt = %q, %v, want data", b, err)
		}
		must.Do(t, f.Close())
	}
	must.Do(t, s.Close())
	for _, parent := range parents {
		if got := names(t, parent); len(got) > 0 {
			t.Errorf("Close left %q in %s", got, parent)
		}
	}
	if _, err := s.Create(); !errors.Is(err, ErrClosed) {
		t.Errorf("Create after Close = %v, want %v", err, ErrClosed)
	}
	must.Do(t, s.Close())
}

// TestDeadProcess checks that if a process dies with temporary files, the next New removes these files and nothing
// else.
func TestDeadProcess(t *testing.T) {
	if parent := os.Getenv("PARTD_TEST_DIE_IN"); parent != "" {
		s := mustNew(t, parent)
		d := must.Get(s.Mkdir())(t)
		must.Do(t, os.WriteFile(filepath.Join(d, "file"), nil, 0o600))
		os.Exit(3)
	}
	parent, elsewhere := t.TempDir(), t.TempDir()
	alive := mustNew(t, parent)
	must.Get(alive.Mkdir())(t)
	foreign := map[string]string{
		prefix + "0123456789abcdef.lock":      "something else", // not the content that lockNew writes
		prefix + "0123456789abcdef0.lock":     mark,             // not a name of a lock file
		prefix + "0123456789ABCDEF.lock":      mark,
		"other-0123456789abcdef.lock":         mark,
		filepath.Base(elsewhere) + "-is-mine": "",
	}
	for name, content := range foreign {
		must.Do(t, os.WriteFile(filepath.Join(parent, name), []byte(content), 0o600))
	}
	// Create a directory without a lock file, one with a foreign lock file, and a link in place of one.
	for _, name := range []string{prefix + "fedcba9876543210", prefix + "0123456789abcdef"} {
		must.Do(t, os.Mkdir(filepath.Join(parent, name), 0o777))
	}
	precious := filepath.Join(elsewhere, "precious")
	link := filepath.Join(parent, prefix+"1111111111111111")
	must.Do(t, errors.Join(os.WriteFile(precious, nil, 0o600), os.Symlink(elsewhere, link), os.WriteFile(link+lockSuffix, []byte(mark), 0o600)))
	// Create the lock file of a process that died before it created its directory.
	must.Do(t, os.WriteFile(filepath.Join(parent, prefix+"2222222222222222.lock"), []byte(mark[:9]), 0o600))
	before := names(t, parent)

	cmd := exec.Command(os.Args[0], "-test.run=^TestDeadProcess$")
	cmd.Env = append(os.Environ(), "PARTD_TEST_DIE_IN="+parent)
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 3 {
		t.Fatalf("the child process: %v, want exit code 3: %s", err, out)
	}
	// The child removed the lock file 2222222222222222, and left a directory and its lock file.
	before = slices.DeleteFunc(before, func(n string) bool { return strings.Contains(n, "2222222222222222") })
	if n := len(names(t, parent)); n != len(before)+2 {
		t.Fatalf("the directory has %d names, want %d", n, len(before)+2)
	}
	must.Do(t, mustNew(t, parent).Close())
	if after := names(t, parent); !slices.Equal(after, before) {
		t.Errorf("after New, the directory has %q, want %q", after, before)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error("New followed a link")
	}
	must.Do(t, alive.Close())
}

// networkFS is a network file system: flock may not exclude processes on other machines.
type networkFS struct{ vfs.OS }

func (networkFS) Network(string) string { return "NFS" }

// TestNetworkFileSystem checks that New only removes directories of processes on this machine from a network file
// system, and that it does not believe the lock.
func TestNetworkFileSystem(t *testing.T) {
	parent := t.TempDir()
	s := must.Get(New([]string{parent}, networkFS{}))(t)
	must.Get(s.Mkdir())(t)
	note, hasMark := strings.CutPrefix(must.Get(vfs.ReadNote(vfs.OS{}, s.dirs[0].path+lockSuffix))(t), mark)
	if _, isHere, runs := vfs.ParseNote(note); !hasMark || !isHere || !runs {
		t.Errorf("the lock file has the note %q", note)
	}
	must.Do(t, s.Close())

	_, rest, _ := strings.Cut(note, "\n") // the start of this process
	host := must.Get(os.Hostname())(t)
	for name, c := range map[string]struct {
		note  string
		stays bool
	}{
		"2222222222222222": {note, true}, // this process runs, and no lock is held
		"3333333333333333": {"process 7 on elsewhere (x, since y)\n" + rest, true},
		"4444444444444444": {"", true},
		"5555555555555555": {fmt.Sprintf("process %d on %s (x, since y)\n0%s", os.Getpid(), host, rest), false},
	} {
		path := filepath.Join(parent, prefix+name)
		must.Do(t, errors.Join(os.Mkdir(path, 0o777), os.WriteFile(path+lockSuffix, []byte(mark+c.note), 0o600)))
		must.Do(t, must.Get(New([]string{parent}, networkFS{}))(t).Close())
		if got := len(names(t, parent)); (got == 2) != c.stays {
			t.Errorf("with the note %q, %d names remain", c.note, got)
		}
		must.Do(t, errors.Join(os.RemoveAll(path), os.RemoveAll(path+lockSuffix)))
	}
}

func TestWrongParents(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must.Do(t, os.WriteFile(file, nil, 0o600))
	for _, parent := range []string{file, file + "-none"} {
		if _, err := New([]string{parent}, nil); err == nil || !strings.Contains(err.Error(), parent) {
			t.Errorf("New(%s) = %v, want an error that names it", parent, err)
		}
	}
	removedDir := filepath.Join(t.TempDir(), "gone")
	must.Do(t, os.Mkdir(removedDir, 0o700))
	s := mustNew(t, removedDir)
	must.Do(t, os.Remove(removedDir))
	if _, err := s.Create(); err == nil || strings.Contains(err.Error(), "remove") {
		t.Errorf("Create in a removed directory = %v, want an error that is not about removing a directory", err)
	}
}

// TestFaults checks that if any call of the file system fails, the next New removes all leftover files.
func TestFaults(t *testing.T) {
	broken := errors.New("broken")
	for call := int64(1); ; call++ {
		parent := t.TempDir()
		fault := &vfstest.Fault{Call: call, Err: broken}
		err := useSet(vfstest.Inject(vfs.OS{}, fault.Check), parent)
		if err != nil && !errors.Is(err, broken) {
			t.Errorf("call %d failed: useSet returned %v, want %v", call, err, broken)
		}
		must.Do(t, mustNew(t, parent).Close())
		if leftovers := names(t, parent); len(leftovers) > 0 {
			t.Errorf("call %d failed: New left %q", call, leftovers)
		}
		if !fault.Hit() {
			if err != nil || call < 10 {
				t.Errorf("after %d calls without a fault: %v", fault.Calls(), err)
			}
			return
		}
	}
}

// useSet creates a file and a directory, and closes the Set.
func useSet(fsys vfs.FS, parent string) error {
	s, err := New([]string{parent}, fsys)
	if err != nil {
		return err
	}
	f, err := s.Create()
	if err == nil {
		err = f.Close()
	}
	d, err2 := s.Mkdir()
	if err2 == nil {
		err2 = os.WriteFile(filepath.Join(d, "file"), nil, 0o600)
	}
	return errors.Join(err, err2, s.Close())
}
