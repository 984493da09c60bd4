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
	"github.com/go-partd/partd/internal/vfs/vfstest"
)

// A drop may free no space, because of readers or because others use it. The store must
// be dropped nonetheless, and a second drop must succeed.
func TestFullDiskDropTwice(t *testing.T) {
	mem := vfstest.NewMem()
	var full atomic.Bool
	h := crashHooks
	h.fs = diskFull(mem, &full, true)
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
	if err := s.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 { // the spare file is used up, so opening fails, but it returns
		if err := s.Drop(t.Context()); err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	full.Store(false)
	if err := s.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, "k", "new")
	wantValue(t, s, "k", "new")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// After a drop on a full disk, the store must accept changes as soon as there is space,
// without being reopened.
func TestSpaceAfterDrop(t *testing.T) {
	for _, openedFull := range []bool{false, true} {
		mem := vfstest.NewMem()
		var full atomic.Bool
		h := crashHooks
		h.fs = diskFull(mem, &full, true)
		s, err := open(crashDir, nil, h)
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, s, "k", "v")
		if openedFull {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			full.Store(true)
			if s, err = open(crashDir, nil, h); err != nil {
				t.Fatal(err)
			}
		}
		full.Store(true)
		if err := s.Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			mustBeFull(t, "Append", s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("x")}))
			if _, err := s.NewSession(t.Context()); !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
		}
		wantValue(t, s, "k", "")
		full.Store(false)
		mustAppend(t, s, "k", "new")
		wantValue(t, s, "k", "new")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = open(crashDir, nil, h); err != nil {
			t.Fatal(err)
		}
		wantValue(t, s, "k", "new")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// If the disk is too full even to open a data file for writing, because opening copies
// it, no data must be lost.
func TestFullDiskCopyOnOpen(t *testing.T) {
	mem := vfstest.NewMem()
	h := crashHooks
	h.fs = mem
	s, err := open(crashDir, nil, h)
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		mustAppend(t, s, "k", strings.Repeat("v", 3000)) // creates segments and blobs
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	h.fs = copyOnOpen{mem}
	if s, err = open(crashDir, nil, h); err != nil {
		t.Fatal(err)
	}
	wantValue(t, s, "k", strings.Repeat("v", 90_000))
	if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("x")}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	h.fs = mem
	if s, err = open(crashDir, nil, h); err != nil {
		t.Fatal(err)
	}
	wantValue(t, s, "k", strings.Repeat("v", 90_000))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// copyOnOpen is a full disk that copies data files when they are opened for writing.
type copyOnOpen struct{ vfs.FS }

func (c copyOnOpen) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	if flag&os.O_RDWR != 0 && (strings.Contains(name, "seg-") || strings.Contains(name, "blob-")) {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
	}
	return c.FS.OpenFile(name, flag, perm)
}

// If the disk fills while the store is open, Drop must succeed without a new write-ahead file.
func TestDiskFillsBeforeDrop(t *testing.T) {
	for _, sync := range []bool{false, true} {
		for _, room := range []bool{false, true} {
			mem := vfstest.NewMem()
			var full atomic.Bool
			h := crashHooks
			h.fs = diskFull(mem, &full, true)
			if room { // removing a file frees enough
				h.fs = vfstest.Inject(h.fs, func(op vfstest.Op, name string) error {
					if op == vfstest.OpRemove && strings.Contains(name, "wal-") {
						full.Store(false)
					}
					return nil
				})
			}
			opts := &Options{Memory: MinMemory, Sync: sync}
			s, err := open(crashDir, opts, h)
			if err != nil {
				t.Fatal(err)
			}
			session, err := s.NewSession(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			mustAppend(t, s, "k", strings.Repeat("v", 300))
			full.Store(true)
			op := partd.Operation{Change: partd.ChangeDrop}
			if applied, err := s.Apply(t.Context(), partd.Tag{Session: session, Number: 1}, op); err != nil || !applied {
				t.Fatalf("sync %t, room %t: %v", sync, room, err)
			}
			wantValue(t, s, "k", "")
			s.MemoryUsed()
			err = s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("x")})
			if room && err != nil || !room && !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("room %t: %v", room, err)
			}
			if err := errors.Join(s.Flush(t.Context())); room && err != nil || !room && !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("room %t: %v", room, err)
			}
			want := ""
			if room {
				want = "x"
			}
			wantValue(t, s, "k", want)
			killed := mem.KillClone()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			full.Store(false)
			for _, fs := range []*vfstest.Mem{mem, killed} {
				h.fs = fs
				if s, err = open(crashDir, opts, h); err != nil {
					t.Fatal(err)
				}
				wantValue(t, s, "k", want)
				if applied, err := s.Apply(t.Context(), partd.Tag{Session: session, Number: 1}, op); err != nil || applied {
					t.Fatalf("second drop: %v", err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
