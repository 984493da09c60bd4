//go:build unix

package output

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// fill returns a directory with files, whose contents are their names.
func fill(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name)
		must.Do(t, errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(name), 0o666)))
	}
	return dir
}

// writeNew creates new files in a directory, and returns a Dir that can commit them. All files named *.csv are those
// of keys.
func writeNew(t *testing.T, dir string, others Others, names ...string) *Dir {
	t.Helper()
	d := must.Get(CreateDir(dir))(t)
	d.Others = others
	d.IsKeyFile = func(name string, isDir bool) bool {
		return !strings.HasPrefix(name, "partd-tmp") && isDir == (filepath.Ext(name) != ".csv")
	}
	for _, name := range names {
		f, err := d.CreateAt(name)
		must.Do(t, err)
		_, err = f.WriteString("new")
		must.Do(t, errors.Join(err, f.Close()))
	}
	return d
}

// list returns the names and contents in a directory.
func list(t *testing.T, dir string) string {
	t.Helper()
	entries := must.Get(os.ReadDir(dir))(t)
	var all []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			all = append(all, e.Name()+"="+readContent(t, filepath.Join(dir, e.Name())))
		} else {
			all = append(all, e.Name())
		}
	}
	return strings.Join(all, " ")
}

// TestReplacedCase checks that Commit does not remove the file that it has just written if the file system ignores case.
// A hard link gives a file two names, as such a file system does.
func TestReplacedCase(t *testing.T) {
	dir := fill(t, "oslo.csv", "other.csv", "OTHER2.csv", "other2.csv")
	must.Do(t, os.Link(filepath.Join(dir, "oslo.csv"), filepath.Join(dir, "Oslo.csv")))
	must.Do(t, writeNew(t, dir, RemoveOthers, "Oslo.csv", "OTHER2.csv").Commit())
	if got, want := list(t, dir), "OTHER2.csv=new Oslo.csv=new oslo.csv=oslo.csv"; got != want {
		t.Errorf("the directory has %q, want %q", got, want)
	}
}

// TestForgottenCase checks that Commit does not replace a file that may be of another key if the file system changes
// capitals in names. The test renames the directory that shows this.
func TestForgottenCase(t *testing.T) {
	for others, want := range map[Others]string{RefuseOthers: "7.csv=7.csv oslo.csv=oslo.csv", RemoveOthers: "7.csv=new oslo.csv=new"} {
		dir := fill(t, "oslo.csv", "7.csv")
		d := writeNew(t, dir, others, "7.csv", "oslo.csv")
		shown := filepath.Dir(d.temp)
		d.temp = filepath.Join(filepath.Dir(shown), "new", commitFiles)
		must.Do(t, os.Rename(shown, filepath.Dir(d.temp)))
		err := d.Commit()
		if (err == nil) != (others == RemoveOthers) || err != nil && (!errors.Is(err, ErrOtherKeys) || !strings.Contains(err.Error(), "oslo.csv")) {
			t.Errorf("Others %d: Commit = %v", others, err)
		}
		if got := list(t, dir); got != want {
			t.Errorf("Others %d: the directory has %q, want %q", others, got, want)
		}
	}
	dir := fill(t, "7.csv")
	d := writeNew(t, dir, RefuseOthers, "7.csv") // without letters
	must.Do(t, os.Rename(filepath.Dir(d.temp), filepath.Join(filepath.Dir(filepath.Dir(d.temp)), "new")))
	d.temp = filepath.Join(filepath.Dir(filepath.Dir(d.temp)), "new", commitFiles)
	must.Do(t, d.Commit())
}

// TestRefusedTargets checks that Commit fails before it changes anything if a file cannot be moved to its name.
func TestRefusedTargets(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(dir string) error
		others  Others
		want    string
	}{
		"link":            {func(dir string) error { return os.Symlink("a.csv", filepath.Join(dir, "k=1.csv")) }, RemoveOthers, "k=1.csv is not a regular file"},
		"pipe":            {func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "k=1.csv"), 0o666) }, RemoveOthers, "k=1.csv is not a regular file"},
		"directory":       {func(dir string) error { return os.Mkdir(filepath.Join(dir, "k=1.csv"), 0o777) }, RefuseOthers, "k=1.csv is a directory"},
		"parent is file":  {func(dir string) error { return os.WriteFile(filepath.Join(dir, "k=1"), nil, 0o666) }, KeepOthers, "k=1 is not a directory"},
		"parent is link":  {func(dir string) error { return os.Symlink(t.TempDir(), filepath.Join(dir, "k=1")) }, RemoveOthers, "k=1 is not a directory"},
		"file not copied": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "k=1.csv"), nil, 0o666) }, KeepOthers, "k=1.csv already exists"},
	} {
		dir := fill(t, "a.csv")
		must.Do(t, c.prepare(dir))
		before := entryNames(t, dir)
		err := writeNew(t, dir, c.others, "k=1/data.csv", "k=1.csv", "b.csv").Commit()
		if c.others == RefuseOthers {
			err = writeNew(t, dir, c.others, "a.csv", "k=1.csv").Commit()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %s", name, err, c.want)
		}
		if after := entryNames(t, dir); !slices.Equal(after, before) {
			t.Errorf("%s: the directory has %q, want %q", name, after, before)
		}
	}
}

// TestPipeNotOpened checks that a run that continues files does not wait for the writer of a pipe.
func TestPipeNotOpened(t *testing.T) {
	dir := t.TempDir()
	must.Do(t, syscall.Mkfifo(filepath.Join(dir, "a.csv"), 0o666))
	d := writeNew(t, dir, KeepOthers, "a.csv")
	if _, _, err := d.OpenLastPart(func(n int) string { return []string{"", "a.csv", "a~2.csv"}[n] }); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("OpenLastPart: %v, want an error for a pipe", err)
	}
	must.Do(t, d.Abort())
}

// TestFinishedCommit checks that the completion of an earlier commit is reported once, even if only the removal of its
// directory was missing.
func TestFinishedCommit(t *testing.T) {
	for _, names := range [][]string{{".partd~commit/files/a.csv"}, {".partd~commit/files/a.csv", ".partd~commit/removed"}} {
		dir := fill(t, names...)
		if len(names) > 1 {
			must.Do(t, os.WriteFile(filepath.Join(dir, names[1]), []byte("[]"), 0o666))
		}
		if err := CheckDir(dir); !errors.Is(err, ErrFinished) {
			t.Errorf("CheckDir: %v, want ErrFinished", err)
		}
		if err := CheckDir(dir); errors.Is(err, ErrFinished) {
			t.Errorf("CheckDir again: %v", err)
		}
	}
}

// TestDurableCommit checks what is synced, and when.
func TestDurableCommit(t *testing.T) {
	dir := fill(t, "a.csv", "k=1/old.csv", "k=2/old.csv")
	d := writeNew(t, dir, RemoveOthers, "a.csv", "k=1/new.csv")
	d.Durable = true
	formerFile, formerDir := syncFile, syncDir
	defer func() { syncFile, syncDir = formerFile, formerDir }()
	var mu sync.Mutex
	var steps []string
	note := func(path string) {
		mu.Lock()
		defer mu.Unlock()
		_, err := os.Stat(filepath.Join(dir, commitName, commitRemoved))
		path = strings.TrimPrefix(strings.TrimPrefix(path, filepath.Dir(d.temp)), dir) + "/"
		step := path + " before the commit"
		if err == nil && readContent(t, filepath.Join(dir, "a.csv")) == "new" {
			step = path + " after the moves"
		} else if err == nil {
			step = path + " after the commit"
		}
		steps = append(steps, step)
	}
	syncFile = func(f *os.File) error { note(f.Name()); return nil }
	syncDir = func(dir string) error { note(dir); return formerDir(dir) }
	must.Do(t, d.Commit())
	isAfter := func(step string) bool { return strings.HasSuffix(step, "after the commit") }
	if i := slices.IndexFunc(steps, isAfter); i != 6 || !slices.IsSortedFunc(steps[i:], func(a, b string) int { return strings.Compare(a[strings.Index(a, " "):], b[strings.Index(b, " "):]) }) {
		t.Errorf("the order is %q", steps)
	}
	slices.Sort(steps)
	want := []string{
		"/ after the commit", "/ after the moves", "/ before the commit", "/files/ before the commit", "/files/a.csv/ before the commit", "/files/k=1/ before the commit",
		"/files/k=1/new.csv/ before the commit", "/k=1/ after the moves", "/k=2/ after the moves", "/removed/ before the commit",
	}
	if !slices.Equal(steps, want) {
		t.Errorf("synced: %q, want %q", steps, want)
	}
}

// TestDamagedList checks that a damaged list of files to remove is an error that names it.
func TestDamagedList(t *testing.T) {
	dir := fill(t, ".partd~commit/files/a.csv")
	list := filepath.Join(dir, commitName, commitRemoved)
	for _, content := range []string{"", `["b.c`} {
		must.Do(t, os.WriteFile(list, []byte(content), 0o666))
		if err := CheckDir(dir); err == nil || !strings.Contains(err.Error(), list+": the list of files to remove is damaged") {
			t.Errorf("list %q: error %v", content, err)
		}
	}
	must.Do(t, os.WriteFile(list, []byte("[]"), 0o666))
	if err := CheckDir(dir); !errors.Is(err, ErrFinished) {
		t.Errorf("CheckDir after the repair: %v", err)
	}
}

// TestKeptMode checks that a new file has the permissions of the file that it replaces.
func TestKeptMode(t *testing.T) {
	dir := fill(t, "a.csv", "b.csv")
	must.Do(t, errors.Join(os.Chmod(filepath.Join(dir, "a.csv"), 0o600), os.Chmod(filepath.Join(dir, "b.csv"), 0o440)))
	d := writeNew(t, dir, RemoveOthers, "a.csv", "b.csv")
	d.Durable = true
	must.Do(t, d.Commit())
	for name, want := range map[string]os.FileMode{"a.csv": 0o600, "b.csv": 0o440} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want mode %v", name, info.Mode(), err, want)
		}
	}
}

// TestCopyAll checks that CopyAll adds a newline only to a file that lacks one at its end.
func TestCopyAll(t *testing.T) {
	for content, want := range map[string]string{"": "", "a": "a\n", "a\n": "a\n", "a\nb": "a\nb\n"} {
		path := filepath.Join(t.TempDir(), "file")
		must.Do(t, os.WriteFile(path, []byte(content), 0o666))
		f := must.Get(os.Open(path))(t)
		var out strings.Builder
		if n, err := CopyAll(&out, f); err != nil || out.String() != want || int(n) != len(want) {
			t.Errorf("CopyAll of %q = %d, %v, and wrote %q; want %q", content, n, err, out.String(), want)
		}
		must.Do(t, f.Close())
	}
}

// TestCheckInputs checks which inputs a job could replace, also if their paths are relative.
func TestCheckInputs(t *testing.T) {
	dir := fill(t, "out/a.csv", "out/k=1/b.csv", "out/sub/c.csv", "d.csv")
	t.Chdir(dir)
	for name, refused := range map[string]bool{
		"out/a.csv": true, "out": true, "out/k=1/b.csv": true,
		"out/sub/c.csv": false, "d.csv": false, "out/missing": false, "-": false,
	} {
		for _, path := range []string{name, filepath.Join(dir, name)} {
			if err := CheckInputs("out", []string{path}); (err != nil) != refused {
				t.Errorf("CheckInputs(%s) = %v, want an error: %t", path, err, refused)
			}
		}
	}
}
