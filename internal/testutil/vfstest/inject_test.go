package vfstest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
)

// everyCall makes calls of every kind until one fails, and returns its error.
func everyCall(fsys vfs.FS) (err error) {
	step := func(f func() error) {
		if err == nil {
			err = f()
		}
	}
	step(func() error { return fsys.MkdirAll("/d/e", 0o777) })
	step(func() error { return fsys.Mkdir("/d/f", 0o777) })
	step(func() error { return fsys.SyncDir("/d") })
	lock := fsys.NewLock("/d/lock")
	step(func() error { return lock.Lock(true) })
	step(func() error { _, err := lock.Info(); return err })
	step(lock.Unlock)
	step(func() error { _, err := lock.TryLock(false); return err })
	step(lock.Unlock)
	var f vfs.File
	step(func() error { f, err = fsys.OpenFile("/d/file", os.O_CREATE|os.O_RDWR, 0o666); return err })
	if f != nil {
		step(func() error { _, err := f.Write([]byte("12345678")); return err })
		step(func() error { _, err := f.WriteAt([]byte("abcd"), 8); return err })
		step(f.Sync)
		step(func() error { return f.Truncate(10) })
		step(func() error { _, err := f.ReadAt(make([]byte, 3), 0); return err })
		step(func() error { _, err := f.Info(); return err })
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	step(func() error { _, err := fsys.Info("/d/file"); return err })
	step(func() error { return fsys.Rename("/d/file", "/d/file2") })
	var d vfs.Dir
	step(func() error { d, err = fsys.ReadDir("/d"); return err })
	if d != nil {
		step(func() error { _, err := d.Next(10); return err })
		if cerr := d.Close(); err == nil {
			err = cerr
		}
	}
	step(func() error { return fsys.Remove("/d/file2") })
	if err != nil {
		_ = lock.Unlock() // in case the fault came before Unlock
	}
	return err
}

// TestInjectAtEveryCall checks that a fault in any call is returned, and leaks no open files.
func TestInjectAtEveryCall(t *testing.T) {
	counter := &Fault{}
	kinds := map[Op]bool{}
	m := NewMem()
	must.Do(t, everyCall(Inject(m, func(op Op, name string) error {
		kinds[op] = true
		return counter.Check(op, name)
	})))
	if len(kinds) != int(NumOps) {
		t.Fatalf("everyCall made calls of %d of the %d kinds: %v", len(kinds), NumOps, kinds)
	}
	for n := int64(1); n <= counter.Calls(); n++ {
		m := NewMem()
		fault := &Fault{Call: n, Err: syscall.EIO}
		err := everyCall(Inject(m, fault.Check))
		var pe *fs.PathError
		if !errors.Is(err, syscall.EIO) || !errors.As(err, &pe) || pe.Path == "" {
			t.Fatalf("fault in call %d: error %v, want a PathError that wraps EIO", n, err)
		}
		if !fault.Hit() || m.OpenCount() != 0 {
			t.Fatalf("fault in call %d: Hit() = %v, want true; %d files are still open, want 0", n, fault.Hit(), m.OpenCount())
		}
	}
}

func TestInjectIsLink(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	must.Do(t, os.Symlink("nowhere", link))
	fault := &Fault{Call: 2, Err: syscall.EIO}
	fsys := Inject(vfs.OS{}, fault.Check).(vfs.LinkChecker)
	if isLink, err := fsys.IsLink(link); !isLink || err != nil {
		t.Fatalf("IsLink of a link = %v, %v, want true", isLink, err)
	}
	if _, err := fsys.IsLink(link); !errors.Is(err, syscall.EIO) {
		t.Fatalf("IsLink with a fault: error %v, want EIO", err)
	}
	if isLink, err := Inject(NewMem(), fault.Check).(vfs.LinkChecker).IsLink("/"); isLink || err != nil {
		t.Fatalf("IsLink on Mem = %v, %v, want false", isLink, err)
	}
}

func TestInjectedWriteIsShort(t *testing.T) {
	m := NewMem()
	fault := &Fault{Call: 2, Err: syscall.ENOSPC, ShortWrite: true, Match: func(op Op, _ string) bool { return op == OpWrite }}
	f := must.Get(Inject(m, fault.Check).OpenFile("/f", os.O_CREATE|os.O_WRONLY, 0o666))(t)
	must.Get(f.Write([]byte("whole ")))(t)
	if n, err := f.Write([]byte("halffull")); n != 4 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Write with an injected short write = %d, %v, want 4 and ENOSPC", n, err)
	}
	if text, _ := read(m, "/f"); text != "whole half" {
		t.Fatalf("the file contains %q, want %q", text, "whole half")
	}
	must.Get(f.Write([]byte("!")))(t)
}

func TestInjectedFaultPersists(t *testing.T) {
	died := errors.New("died")
	fault := &Fault{Call: 3, Err: died, ShortWrite: true, Persists: true}
	m := NewMem()
	fsys := Inject(m, fault.Check)
	f := must.Get(fsys.OpenFile("/f", os.O_CREATE|os.O_WRONLY, 0o666))(t)
	must.Get(f.Write([]byte("1234")))(t)
	for range 3 {
		must.Fail(t, must.Err(f.Write([]byte("1234"))), died, "Write after the fault")
	}
	if err := fsys.Remove("/f"); !errors.Is(err, died) {
		t.Fatalf("Remove after the fault: error %v, want %v", err, died)
	}
	if text, _ := read(m, "/f"); text != "123412" {
		t.Fatalf("the file contains %q, want %q", text, "123412")
	}
	if err := f.Close(); !errors.Is(err, died) || m.OpenCount() != 0 {
		t.Fatalf("Close after the fault: error %v, want %v; %d files are still open, want 0", err, died, m.OpenCount())
	}
}

func TestOpNames(t *testing.T) {
	for o := Op(0); o < NumOps; o++ {
		if o.String() == "" || o.Changes() == (o == OpInfo || o == OpRead || o == OpReadDir || o == OpLock || o == OpUnlock || o == OpClose) {
			t.Errorf("op %d: String() = %q, Changes() = %v", o, o, o.Changes())
		}
	}
	if NumOps.String() != "Op(14)" {
		t.Errorf("NumOps.String() = %q, want Op(14)", NumOps.String())
	}
}

// TestFailedSyncLoses checks that a failed sync loses unsynced data, even if the next sync succeeds, except for data
// written again.
func TestFailedSyncLoses(t *testing.T) {
	mem := NewMem()
	var fail bool
	fsys := Inject(mem, func(op Op, _ string) error {
		if op == OpSync && fail {
			return syscall.EIO
		}
		return nil
	})
	f := create(t, fsys, "/f", strings.Repeat("a", 3*pageSize), true)
	must.Do(t, fsys.SyncDir("/"))
	write := func(page int64, c string) {
		t.Helper()
		must.Get(f.WriteAt([]byte(strings.Repeat(c, pageSize)), page*pageSize))(t)
	}
	write(0, "b")
	write(1, "b")
	fail = true
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Sync with a fault: error %v, want EIO", err)
	}
	fail = false
	wantPages := func(m *Mem, text string) {
		t.Helper()
		got, _ := read(m, "/f")
		if len(got) != 3*pageSize || string([]byte{got[0], got[pageSize], got[2*pageSize]}) != text {
			t.Errorf("the file has %d bytes, and its pages begin with %.1q %.1q %.1q, want %q", len(got), got[0:], got[pageSize:], got[2*pageSize:], text)
		}
	}
	write(1, "c")
	wantPages(mem, "bca")
	wantPages(mem.Crash(nil), "aaa")
	killed := mem.KillClone()
	must.Do(t, f.Sync())
	wantPages(mem, "bca")
	wantPages(mem.Crash(nil), "aca")
	write(2, "d")
	must.Do(t, f.Sync())
	wantPages(mem.Crash(nil), "acd")
	wantPages(killed, "bca")
	wantPages(killed.Crash(nil), "aaa")
	must.Do(t, f.Close())
}
