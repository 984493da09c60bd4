package logstore

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// diskFull returns a file system that is full while full is set: it rejects the creation of
// files, and writes. If spare is set, it accepts writes to the renamed spare file, whose blocks are
// already allocated.
func diskFull(mem *vfstest.Mem, full *atomic.Bool, spare bool) vfs.FS {
	return failingCreates{vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if !full.Load() || op != vfstest.OpWrite || strings.HasSuffix(name, lockName) {
			return nil
		}
		_, used := mem.Info(strings.TrimSuffix(name, manifestTmpName) + spareName)
		if spare && strings.HasSuffix(name, manifestTmpName) && used != nil {
			return nil // the temporary manifest is the renamed spare file
		}
		return syscall.ENOSPC
	}), full}
}

// failingCreates rejects the creation of files while full is set.
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

// TestFullDiskDrop checks that a store on a full disk can be read and dropped, after a clean
// shutdown and after a kill. When there is space, it must accept changes.
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
			for range 2 { // opening must not change the store
				if s, err = open(crashDir, opts, h); err != nil {
					t.Fatalf("killed %t: opening the store on a full disk: %v", killed, err)
				}
				wantValue(t, s, "k", want)
				if got, err := contents(s); err != nil || string(got["k"]) != want {
					t.Fatalf("Scan yielded %d bytes for key k (error %v), want %d", len(got["k"]), err, len(want))
				}
				err = s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("x")})
				if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "full") {
					t.Fatalf("Append: error %v, want ENOSPC with a message about the full disk", err)
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
				t.Fatalf("killed %t, Sync option %t: Drop on a full disk: %v", killed, sync, err)
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
				t.Fatalf("Apply in the old session after Drop = %v, %v, want true", applied, err)
			}
			wantValue(t, s, "k", "new")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestFullDiskDropFails checks that Drop changes nothing if even the spare file cannot be used.
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
		t.Fatalf("Drop: error %v, want ENOSPC", err)
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

func TestFullDiskNew(t *testing.T) {
	var full atomic.Bool
	full.Store(true)
	h := crashHooks
	h.fs = diskFull(vfstest.NewMem(), &full, true)
	if s, err := open(crashDir, nil, h); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("open = %v, error %v, want ENOSPC", s, err)
	}
}

func TestFullTmpfs(t *testing.T) {
	disk := vfstest.Mount(t, "tmpfs", 4<<20)
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
			t.Fatalf("append %d failed with %v, want ENOSPC after at least 100 appends", n, err)
		}
		_ = s.Close() // returns an error, because it cannot flush everything
		if err := os.WriteFile(disk+"/rest", make([]byte, 4<<20), 0o666); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("filling the disk with another file: error %v, want ENOSPC", err)
		}
		if s, err = Open(dir, &Options{Memory: MinMemory}); err != nil {
			t.Fatal(err)
		}
		v, err := s.Get(t.Context(), "k")
		if err != nil || len(v[0]) != (n-1)*1000 {
			t.Fatalf("Get = %d bytes, want %d acknowledged appends of 1000 bytes; error %v", len(v[0]), n-1, err)
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
