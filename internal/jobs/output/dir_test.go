package output

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestIgnoredCase checks names that differ only in case on a file system that ignores case. The test creates the names
// that such a file system would find.
func TestIgnoredCase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	d := must.Get(CreateDir(dir))(t)
	must.Do(t, errors.Join(os.WriteFile(filepath.Join(d.temp, "A.csv"), []byte("rows"), 0o666), os.Mkdir(filepath.Join(d.temp, "k=A"), 0o777)))
	f, name, err := d.CreateFile("A", ".csv")
	if err != nil || name != "%41" {
		t.Fatalf("CreateFile = %q, %v, want %%41", name, err)
	}
	_ = f.Close()
	must.Do(t, os.WriteFile(filepath.Join(d.temp, "a.csv"), nil, 0o666)) // the same file as A.csv
	f, name, err = d.CreateFile("a", ".csv")
	if err != nil || name != names.Hashed("a") {
		t.Fatalf("CreateFile = %q, %v, want the key's hash", name, err)
	}
	_ = f.Close()
	for _, path := range []string{"A.csv", "k=A/n=1/data.csv", "k=A/data.csv"} {
		if f, err := d.CreateAt(path); !errors.Is(err, fs.ErrExist) {
			t.Errorf("CreateAt(%q) = %v, %v, want ErrExist", path, f, err)
		}
	}
	if got := readContent(t, filepath.Join(d.temp, "A.csv")); got != "rows" {
		t.Errorf("A.csv has %q, want its first rows", got)
	}
	for _, path := range []string{"k=C/n=1/data.csv", "k=C/n=2/data.csv"} {
		f := must.Get(d.CreateAt(path))(t)
		_ = f.Close()
	}
	must.Do(t, d.Abort())
}

// TestDirectoryInOtherCase checks that no file is put into a directory from an earlier run that has the name with other
// capitals. The test creates the directory that a file system that ignores case would find, and sets its other name.
func TestDirectoryInOtherCase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	must.Do(t, os.MkdirAll(filepath.Join(dir, "n=1", "k=A"), 0o777))
	d := must.Get(CreateDir(dir))(t)
	d.spelled[filepath.Join(dir, "n=1")] = map[string]bool{"k=a": true}
	for path, want := range map[string]error{"n=1/k=A/data.csv": fs.ErrExist, "n=1/k=%41/data.csv": nil, "n=2/k=A/data.csv": nil} {
		f, err := d.CreateAt(path)
		must.Fail(t, err, want, "%s", path)
		if err == nil {
			must.Do(t, f.Close())
		}
	}
	delete(d.spelled, filepath.Join(dir, "n=1"))
	f := must.Get(d.CreateAt("n=1/k=A/data-2.csv"))(t)
	must.Do(t, errors.Join(f.Close(), d.Abort()))
}

// TestLongNames checks that a number, as split --max-file-size adds it, fits into the names of files, and that Visible
// files have no names that other programs hide.
func TestLongNames(t *testing.T) {
	const longest = 255 - len("~1000000000") - len(".csv")
	var d Dir
	for _, n := range []int{longest, longest + 1} {
		key := strings.Repeat("k", n)
		if name := d.nameOfKey(names.Scheme{}, key, ".csv"); (name == key) != (n == longest) || len(name) > longest {
			t.Errorf("a key of %d bytes has the name %q", n, name)
		}
	}
	d.Visible = true
	for key, want := range map[string]string{".a": "%2Ea", "_a": "%5Fa", "a_": "a_"} {
		if name := d.nameOfKey(names.Scheme{}, key, ".csv"); name != want {
			t.Errorf("with Visible, the key %q has the name %q, want %q", key, name, want)
		}
	}
}
