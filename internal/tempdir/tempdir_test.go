package tempdir

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/internal/vfs/vfstest"
)

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func mustNew(t *testing.T, places ...string) *Set {
	t.Helper()
	s, err := New(places, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFilesAndDirectories(t *testing.T) {
	places := []string{t.TempDir(), t.TempDir()}
	s := mustNew(t, places...)
	if len(names(t, places[0])) > 0 {
		t.Error("something was made before it was needed")
	}
	var files []vfs.File
	for range 4 {
		f, err := s.Create()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("data")); err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	for i, place := range places { // files have no names, and go with the process
		if got := names(t, filepath.Join(place, names(t, place)[0])); len(got) > 0 {
			t.Errorf("place %d has the files %q", i, got)
		}
	}
	for range 2 {
		d, err := s.Mkdir()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(d, "a", "b"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "a", "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, place := range places {
		if got := names(t, place); len(got) != 2 || !strings.HasPrefix(got[0], prefix) {
			t.Errorf("place %d has %q", i, got)
		}
	}
	for _, f := range files {
		var b [4]byte
		if _, err := f.ReadAt(b[:], 0); err != nil || string(b[:]) != "data" {
			t.Errorf("%q, %v", b, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for _, place := range places {
		if got := names(t, place); len(got) > 0 {
			t.Errorf("left: %q", got)
		}
	}
	if _, err := s.Create(); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestDeadProcess lets a process die that has temporary data, and looks whether
// the next one removes that, and nothing else.
func TestDeadProcess(t *testing.T) {
	if place := os.Getenv("PARTD_TEST_DIE_IN"); place != "" {
		s := mustNew(t, place)
		d, err := s.Mkdir()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		os.Exit(3)
	}
	place, elsewhere := t.TempDir(), t.TempDir()
	alive := mustNew(t, place)
	if _, err := alive.Mkdir(); err != nil {
		t.Fatal(err)
	}
	foreign := map[string]string{
		prefix + "0123456789abcdef.lock":      "something else", // not what own writes
		prefix + "0123456789abcdef0.lock":     mark,             // not a name that own gives
		prefix + "0123456789ABCDEF.lock":      mark,
		"other-0123456789abcdef.lock":         mark,
		filepath.Base(elsewhere) + "-is-mine": "",
	}
	for name, content := range foreign {
		if err := os.WriteFile(filepath.Join(place, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A directory without a lock file, one whose lock file is foreign, and a
	// link to elsewhere in the place of a directory.
	for _, name := range []string{prefix + "fedcba9876543210", prefix + "0123456789abcdef"} {
		if err := os.Mkdir(filepath.Join(place, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	precious := filepath.Join(elsewhere, "precious")
	link := filepath.Join(place, prefix+"1111111111111111")
	if err := errors.Join(os.WriteFile(precious, nil, 0o600), os.Symlink(elsewhere, link), os.WriteFile(link+lockSuffix, []byte(mark), 0o600)); err != nil {
		t.Fatal(err)
	}
	// The lock file of one that died before it made its directory.
	if err := os.WriteFile(filepath.Join(place, prefix+"2222222222222222.lock"), []byte(mark[:9]), 0o600); err != nil {
		t.Fatal(err)
	}
	before := names(t, place)

	cmd := exec.Command(os.Args[0], "-test.run=^TestDeadProcess$")
	cmd.Env = append(os.Environ(), "PARTD_TEST_DIE_IN="+place)
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 3 {
		t.Fatalf("%v: %s", err, out)
	}
	// The child swept the early one already, and left two names.
	before = slices.DeleteFunc(before, func(n string) bool { return strings.Contains(n, "2222222222222222") })
	if n := len(names(t, place)); n != len(before)+2 {
		t.Fatalf("%d names, want %d", n, len(before)+2)
	}
	if err := mustNew(t, place).Close(); err != nil {
		t.Fatal(err)
	}
	if after := names(t, place); !slices.Equal(after, before) {
		t.Errorf("%q, want %q", after, before)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error("a link was followed")
	}
	if err := alive.Close(); err != nil {
		t.Error(err)
	}
}

func TestWrongPlaces(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{file, file + "-none"} {
		if _, err := New([]string{place}, nil); err == nil || !strings.Contains(err.Error(), place) {
			t.Errorf("%s: %v", place, err)
		}
	}
	gone := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(gone, 0o700); err != nil {
		t.Fatal(err)
	}
	s := mustNew(t, gone)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(); err == nil || strings.Contains(err.Error(), "remove") {
		t.Errorf("%v: it removes what was never made", err)
	}
}

// Each call of the file system fails once. What is left then goes with the next New.
func TestFaults(t *testing.T) {
	broken := errors.New("broken")
	for at := int64(1); ; at++ {
		place := t.TempDir()
		fault := &vfstest.Fault{At: at, Err: broken}
		err := use(vfstest.Inject(vfs.OS{}, fault.Check), place)
		if err != nil && !errors.Is(err, broken) {
			t.Errorf("call %d: %v", at, err)
		}
		if err := mustNew(t, place).Close(); err != nil {
			t.Error(err)
		}
		if left := names(t, place); len(left) > 0 {
			t.Errorf("call %d: left: %q", at, left)
		}
		if !fault.Hit() {
			if err != nil || at < 10 {
				t.Errorf("%d calls, %v", fault.Calls(), err)
			}
			return
		}
	}
}

// use does all that can be done.
func use(fsys vfs.FS, place string) error {
	s, err := New([]string{place}, &Options{FS: fsys})
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
