package vfstest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
)

func create(t *testing.T, fsys vfs.FS, name, text string, sync bool) vfs.File {
	t.Helper()
	f := must.Get(fsys.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o666))(t)
	must.Get(f.Write([]byte(text)))(t)
	if sync {
		must.Do(t, f.Sync())
	}
	return f
}

// read returns a file's content, and whether the file exists.
func read(fsys vfs.FS, name string) (string, bool) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return "", false
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	if err != nil {
		return err.Error(), false
	}
	return string(b), true
}

// list returns the names of all directories and files below dir, with the files' contents.
func list(t *testing.T, fsys vfs.FS, dir string) []string {
	t.Helper()
	d := must.Get(fsys.ReadDir(dir))(t)
	var names []string
	for {
		entries, err := d.Next(3)
		if err == io.EOF {
			break
		}
		must.Do(t, err)
		for _, e := range entries {
			name := filepath.Join(dir, e.Name())
			if e.IsDir() {
				names = append(names, name+"/")
				names = append(names, list(t, fsys, name)...)
			} else {
				text, _ := read(fsys, name)
				names = append(names, fmt.Sprintf("%s=%q", name, text))
			}
		}
	}
	must.Do(t, d.Close())
	slices.Sort(names)
	return names
}

// TestMemIsLikeOS checks that the same random calls to the real file system and to Mem have the same results and kinds
// of errors.
func TestMemIsLikeOS(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		real, mem := vfs.FS(vfs.OS{}), NewMem()
		dir := t.TempDir()
		must.Do(t, mem.MkdirAll(dir, 0o777))
		names := []string{"a", "b", "d", "d/x", "d/y", "e/x", "a/b", "none/x", strings.Repeat("n", 300)}
		name := func() string { return filepath.Join(dir, names[rnd.IntN(len(names))]) }
		var open [2][]vfs.File
		for range 120 {
			n, n2, num, buf := name(), name(), rnd.IntN(6000), bytes.Repeat([]byte{byte(rnd.IntN(256))}, rnd.IntN(5000))
			off := int64(rnd.IntN(20000))
			flag := []int{
				os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREATE, os.O_WRONLY | os.O_CREATE | os.O_TRUNC,
				os.O_WRONLY | os.O_CREATE | os.O_APPEND, os.O_RDWR | os.O_CREATE | os.O_EXCL,
			}[rnd.IntN(6)]
			op := rnd.IntN(12)
			if op == 5 && len(n)+len(n2) > 300 {
				op = 4 // if both names are invalid, it is unspecified which one Rename reports
			}
			var got [2]string
			for i, fsys := range []vfs.FS{real, mem} {
				call := func(f func(vfs.File) error) error {
					if len(open[i]) == 0 {
						return nil
					}
					return f(open[i][num%len(open[i])])
				}
				var err error
				var result string
				switch op {
				case 0, 1, 2:
					var f vfs.File
					if f, err = fsys.OpenFile(n, flag, 0o600); err == nil {
						open[i] = append(open[i], f)
					}
				case 3:
					err = fsys.Mkdir(n, 0o700)
				case 4:
					err = fsys.Remove(n)
				case 5:
					err = fsys.Rename(n, n2)
				case 6:
					var info vfs.Info
					info, err = fsys.Info(n)
					if !info.Mode.IsDir() {
						result = fmt.Sprint(info.Size, info.Links, info.Mode)
					}
				case 7:
					err = call(func(f vfs.File) error { _, err := f.Write(buf); return err })
				case 8:
					err = call(func(f vfs.File) error {
						if num%2 == 0 {
							return f.Truncate(off)
						}
						_, err := f.WriteAt(buf, off)
						if err != nil && !errors.Is(err, syscall.EBADF) {
							err = errors.New("refused") // package os has a private error for this
						}
						return err
					})
				case 9:
					err = call(func(f vfs.File) error {
						b := make([]byte, 3000)
						n, err := f.ReadAt(b, off)
						result = string(b[:n])
						return err
					})
				case 10:
					err = call(func(f vfs.File) error {
						info, err := f.Info()
						if !info.Mode.IsDir() {
							result = fmt.Sprint(info.Size, info.Links)
						}
						return err
					})
				case 11:
					err = fsys.MkdirAll(n, 0o777)
				}
				var no syscall.Errno
				if errors.As(err, &no) {
					err = no
				}
				got[i] = fmt.Sprint(op, err, result)
			}
			if got[0] != got[1] {
				t.Fatalf("seed %d: the real file system returned %q, Mem %q", seed, got[0], got[1])
			}
		}
		for _, files := range open {
			for _, f := range files {
				must.Do(t, f.Close())
			}
		}
		if a, b := list(t, real, dir), list(t, mem, dir); !slices.Equal(a, b) {
			t.Fatalf("seed %d: the real file system has\n%q\nMem\n%q", seed, a, b)
		}
		if n := mem.OpenCount(); n != 0 {
			t.Fatalf("OpenCount() = %d after all files were closed, want 0", n)
		}
	}
}

func TestMemLocks(t *testing.T) {
	synctest.Test(t, testMemLocks)
}

func testMemLocks(t *testing.T) {
	m := NewMem()
	a, b := m.NewLock("/l"), m.NewLock("/l")
	must.Do(t, a.Lock(true))
	if ok, err := b.TryLock(false); ok || err != nil {
		t.Fatalf("TryLock of a held lock = %v, %v, want false", ok, err)
	}
	got := make(chan error)
	go func() { got <- b.Lock(true) }()
	synctest.Wait() // b now waits for the lock
	must.Do(t, a.Unlock())
	must.Do(t, <-got)
	if c := m.KillClone().NewLock("/l"); true {
		if ok, err := c.TryLock(true); !ok || err != nil {
			t.Fatalf("TryLock in a KillClone = %v, %v, want true", ok, err)
		}
	}
	// A lock file that replaces another has its own lock.
	must.Do(t, m.Remove("/l"))
	must.Do(t, a.Lock(true))
	ia, _ := a.Info()
	ib, _ := b.Info()
	if ia.SameFile(ib) || ib.Links != 0 || ia.Links != 1 {
		t.Fatalf("the locks are of files %+v and %+v, want a new file and a removed one", ia, ib)
	}
	must.Do(t, a.Unlock())
	must.Do(t, b.Unlock())
	must.Do(t, a.Lock(false))
	must.Do(t, b.Lock(false))
	if ok, _ := m.NewLock("/l").TryLock(true); ok {
		t.Fatal("TryLock acquired an exclusive lock while two shared locks are held")
	}
	must.Do(t, a.Unlock())
	must.Do(t, b.Unlock())
	if m.OpenCount() != 0 {
		t.Fatalf("OpenCount() = %d after all locks were released, want 0", m.OpenCount())
	}
}

func TestMemLimitsOpenFiles(t *testing.T) {
	m := NewMem()
	m.MaxOpen = 2
	a := create(t, m, "/a", "", false)
	l := m.NewLock("/l")
	must.Do(t, l.Lock(true))
	if _, err := m.ReadDir("/"); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("opening a third file: error %v, want EMFILE", err)
	}
	must.Do(t, a.Close())
	must.Do(t, create(t, m, "/b", "", false).Close())
	must.Fail(t, a.Close(), fs.ErrClosed, "second Close")
}

// TestPunch checks that a punched range reads as zeros, that its whole pages are freed, and that a
// power failure can restore an unsynced range.
func TestPunch(t *testing.T) {
	for _, fsys := range []vfs.FS{vfs.OS{}, NewMem()} {
		dir := t.TempDir()
		must.Do(t, fsys.MkdirAll(dir, 0o777))
		for d := dir; d != "/"; d = filepath.Dir(d) {
			must.Do(t, fsys.SyncDir(filepath.Dir(d)))
		}
		f := create(t, fsys, dir+"/f", strings.Repeat("x", 40_000), true)
		must.Do(t, fsys.SyncDir(dir))
		before := must.Get(f.Info())(t)
		p, ok := f.(vfs.Puncher)
		if !ok {
			continue // not supported on every system
		}
		must.Do(t, p.Punch(1000, 20_000))
		must.Do(t, p.Punch(39_000, 5000))
		want := strings.Repeat("x", 1000) + strings.Repeat("\x00", 20_000) + strings.Repeat("x", 18_000) + strings.Repeat("\x00", 1000)
		if got, ok := read(fsys, dir+"/f"); !ok || got != want {
			t.Fatalf("%T: after Punch, the file has wrong content: %d bytes, want %d", fsys, len(got), len(want))
		}
		after := must.Get(f.Info())(t)
		if after.Size != before.Size || after.Disk > before.Disk-4*pageSize {
			t.Errorf("%T: the file uses %d bytes of disk, want at least four pages less than the %d before", fsys, after.Disk, before.Disk)
		}
		must.Do(t, f.Close())
		if m, ok := fsys.(*Mem); ok {
			if got, _ := read(m.Crash(nil), dir+"/f"); got != strings.Repeat("x", 40_000) {
				t.Errorf("an unsynced Punch survived a power failure: the file has %d bytes", len(got))
			}
		}
	}
}
