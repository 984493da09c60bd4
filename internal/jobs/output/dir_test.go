package output

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestIgnoredCase checks names that differ only in case on a file system that ignores case. The test creates the names that
// such a file system would find.
func TestIgnoredCase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	d, err := CreateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(d.temp, "A.csv"), []byte("rows"), 0o666), os.Mkdir(filepath.Join(d.temp, "k=A"), 0o777)); err != nil {
		t.Fatal(err)
	}
	f, name, err := d.CreateFile("A", ".csv")
	if err != nil || name != "%41" {
		t.Fatalf("CreateFile = %q, %v, want %%41", name, err)
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
		f, err := d.CreateAt(path)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	if err := d.Abort(); err != nil {
		t.Fatal(err)
	}
}
