package logstore

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/internal/vfs/disktest"
	"github.com/go-partd/partd/internal/vfs/vfstest"
)

// diskFull fails everything that needs space: the creation of files, and writes, except
// to the spare file's blocks.
func diskFull(mem *vfstest.Mem, full *atomic.Bool, spare bool) vfs.FS {
	return failingCreates{vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if !full.Load() || op != vfstest.OpWrite || strings.HasSuffix(name, lockName) {
			return nil
		}
		_, used := mem.Info(strings.TrimSuffix(name, manifestTmpName) + spareName)
		if spare && strings.HasSuffix(name, manifestTmpName) && used != nil {
			return nil // this was the spare file
		}
		return syscall.ENOSPC
	}), full}
}

// failingCreates fails the creation of files on a full disk.
type failingCreates struct {
	vfs.FS
	full *atomic.Bool
}

func (n failingCreates) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	if _, err := n.Info(name); err != nil && flag&os.O_CREATE != 0 && n.full.Load() {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
	}
	return n.FS.OpenFile(name, flag, perm)
}

// On a full disk, a store must be readable and droppable, after a clean shutdown or a
// kill. Afterwards it must accept changes.
func TestFullDiskDrop(t *testing.T) {
	for _, sync := range []bool{false, true} {
		for _, killed := range []bool{false, true} {
			mem := vfstest.NewMem()
			var full atomic.Bool
			h := crashHooks
			h.fs = diskFull(mem, &full, true)
			opts := &Options{Memory: MinMemory, Sync: sync}
			s, err := open(crashDir, opts, h)
			if err != nil {
				t.Fatal(err)
			}
			session, err := s.NewSession(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for range 30 {
				mustAppend(t, s, "k", strings.Repeat("v", 300))
			}
			want := strings.Repeat("v", 9000)
			if killed {
				mem = mem.KillClone()
				h.fs = diskFull(mem, &full, true)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			full.Store(true)
			for range 2 { // opening must not change it
				if s, err = open(crashDir, opts, h); err != nil {
					t.Fatalf("killed %t: %v", killed, err)
				}
				wantValue(t, s, "k", want)
				if got, err := contents(s); err != nil || string(got["k"]) != want {
					t.Fatalf("%d bytes, %v", len(got["k"]), err)
				}
				err = s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("x")})
				if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "full") {
					t.Fatalf("Append: %v", err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if s, err = open(crashDir, opts, h); err != nil {
				t.Fatal(err)
			}
			r, err := s.Open(t.Context(), "k")
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Drop(t.Context()); err != nil {
				t.Fatalf("killed %t, sync %t: %v", killed, sync, err)
			}
			wantValue(t, s, "k", "")
			if err := errors.Join(r.Close(), s.Close()); err != nil {
				t.Fatal(err)
			}
			full.Store(false)
			if s, err = open(crashDir, opts, h); err != nil {
				t.Fatal(err)
			}
			wantValue(t, s, "k", "")
			op := partd.Operation{Change: partd.ChangeAppend, Entries: []partd.Entry{{Key: "k", Value: []byte("new")}}}
			if applied, err := s.Apply(t.Context(), partd.Tag{Session: session, Number: 1}, op); err != nil || !applied {
				t.Fatalf("the session was lost: %v", err)
			}
			wantValue(t, s, "k", "new")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// If not even the spare file can be used, Drop must fail and change nothing.
func TestFullDiskDropFails(t *testing.T) {
	mem := vfstest.NewMem()
	var full atomic.Bool
	h := crashHooks
	h.fs = diskFull(mem, &full, false)
	s, err := open(crashDir, nil, h)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, "k", "v")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	if s, err = open(crashDir, nil, h); err != nil {
		t.Fatal(err)
	}
	if err := s.Drop(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Drop: %v", err)
	}
	wantValue(t, s, "k", "v")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	full.Store(false)
	h.fs = mem
	if s, err = open(crashDir, nil, h); err != nil {
		t.Fatal(err)
	}
	wantValue(t, s, "k", "v")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// If there is no store, Open must not create one on a full disk.
func TestFullDiskNew(t *testing.T) {
	var full atomic.Bool
	full.Store(true)
	h := crashHooks
	h.fs = diskFull(vfstest.NewMem(), &full, true)
	if s, err := open(crashDir, nil, h); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v, %v", s, err)
	}
}

// The same on a real full disk.
func TestFullTmpfs(t *testing.T) {
	disk := disktest.Mount(t, "tmpfs", 4<<20)
	dir := disk + "/store"
	for range 2 {
		s, err := Open(dir, &Options{Memory: MinMemory})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; err == nil; n++ {
			err = s.Append(t.Context(), partd.Entry{Key: "k", Value: make([]byte, 1000)})
		}
		if !errors.Is(err, syscall.ENOSPC) || n < 100 {
			t.Fatalf("%d appends, %v", n, err)
		}
		_ = s.Close() // it cannot flush everything, and returns an error
		if err := os.WriteFile(disk+"/rest", make([]byte, 4<<20), 0o666); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		if s, err = Open(dir, &Options{Memory: MinMemory}); err != nil {
			t.Fatal(err)
		}
		v, err := s.Get(t.Context(), "k")
		if err != nil || len(v[0]) != (n-1)*1000 {
			t.Fatalf("%d bytes after %d appends, %v", len(v[0]), n-1, err)
		}
		if err := s.Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, s, "k", "v")
		wantValue(t, s, "k", "v")
		if err := errors.Join(s.Drop(t.Context()), s.Close(), os.Remove(disk+"/rest")); err != nil {
			t.Fatal(err)
		}
	}
}
