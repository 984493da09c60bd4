package logstore

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestSpaceAfterDrop checks that after a drop on a full disk that freed no space, for example because readers retain
// the files, later drops do not block, and the store accepts changes as soon as there is space.
func TestSpaceAfterDrop(t *testing.T) {
	for _, c := range []struct{ openedFull, dropAgain bool }{{false, false}, {true, false}, {true, true}} {
		var full atomic.Bool
		h := crashHooksOn(diskFull(vfstest.NewMem(), &full, true))
		s := openWith(t, crashDir, nil, h)
		mustAppend(t, s, "k", "v")
		if c.openedFull {
			must.Do(t, s.Close())
			full.Store(true)
			s = openWith(t, crashDir, nil, h)
		}
		full.Store(true)
		must.Do(t, s.Drop(t.Context()))
		for range 3 {
			if c.dropAgain { // may fail, because the first drop used the spare file
				if err := s.Drop(t.Context()); err != nil && !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("later Drop on a full disk: error %v, want nil or ENOSPC", err)
				}
				continue
			}
			mustBeFull(t, "Append", s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("x")}))
			if _, err := s.NewSession(t.Context()); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("NewSession on a full disk: error %v, want ENOSPC", err)
			}
		}
		wantValue(t, s, "k", "")
		full.Store(false)
		if c.dropAgain {
			must.Do(t, s.Drop(t.Context()))
		}
		mustAppend(t, s, "k", "new")
		wantValue(t, s, "k", "new")
		must.Do(t, s.Close())
		s = openWith(t, crashDir, nil, h)
		wantValue(t, s, "k", "new")
		must.Do(t, s.Close())
	}
}

// TestFullDiskCopyOnOpen checks that no data is lost if the disk is too full to open a data file
// for writing. Some file systems copy a file when it is opened for writing.
func TestFullDiskCopyOnOpen(t *testing.T) {
	mem := vfstest.NewMem()
	h := crashHooksOn(mem)
	s := openWith(t, crashDir, nil, h)
	for range 30 {
		mustAppend(t, s, "k", strings.Repeat("v", 3000)) // creates segments and blobs
	}
	must.Do(t, s.Close())
	h.fs = copyOnOpen{mem}
	s = openWith(t, crashDir, nil, h)
	wantValue(t, s, "k", strings.Repeat("v", 90_000))
	if err := s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("x")}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Append: error %v, want ENOSPC", err)
	}
	must.Do(t, s.Close())
	wantContent(t, mem, map[string][]byte{"k": bytes.Repeat([]byte("v"), 90_000)})
}

// copyOnOpen is a full disk that copies data files when they are opened for writing.
type copyOnOpen struct{ vfs.FS }

func (c copyOnOpen) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	if flag&os.O_RDWR != 0 && (strings.Contains(name, "seg-") || strings.Contains(name, "blob-")) {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
	}
	return c.FS.OpenFile(name, flag, perm)
}

// TestDiskFillsBeforeDrop checks that Drop succeeds on a full disk, even without space for a new write-ahead file.
func TestDiskFillsBeforeDrop(t *testing.T) {
	for _, sync := range []bool{false, true} {
		for _, dropFreesSpace := range []bool{false, true} {
			mem := vfstest.NewMem()
			var full atomic.Bool
			h := crashHooksOn(diskFull(mem, &full, true))
			if dropFreesSpace { // removing a write-ahead file frees enough space
				h.fs = freeOnRemove(h.fs, &full, false)
			}
			opts := &Options{Memory: MinMemory, Sync: sync}
			s := openWith(t, crashDir, opts, h)
			session := newSession(t, s)
			mustAppend(t, s, "k", strings.Repeat("v", 300))
			full.Store(true)
			op := partd.Operation{Change: partd.ChangeDrop}
			if applied, err := s.Apply(t.Context(), partd.Tag{Session: session, Number: 1}, op); err != nil || !applied {
				t.Fatalf("Sync option %t, drop frees space %t: Apply of the drop: %v", sync, dropFreesSpace, err)
			}
			wantValue(t, s, "k", "")
			s.MemoryUsed()
			err := s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("x")})
			if dropFreesSpace && err != nil || !dropFreesSpace && !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("Drop frees space %t: Append after Drop: error %v, want ENOSPC only without space", dropFreesSpace, err)
			}
			if err := s.Flush(t.Context()); dropFreesSpace && err != nil || !dropFreesSpace && !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("Drop frees space %t: Flush after Drop: error %v, want ENOSPC only without space", dropFreesSpace, err)
			}
			want := ""
			if dropFreesSpace {
				want = "x"
			}
			wantValue(t, s, "k", want)
			killed := mem.KillClone()
			must.Do(t, s.Close())
			full.Store(false)
			for _, fs := range []*vfstest.Mem{mem, killed} {
				h.fs = fs
				s = openWith(t, crashDir, opts, h)
				wantValue(t, s, "k", want)
				if applied, err := s.Apply(t.Context(), partd.Tag{Session: session, Number: 1}, op); err != nil || applied {
					t.Fatalf("retry of the drop after reopening = %v, %v, want false", applied, err)
				}
				must.Do(t, s.Close())
			}
		}
	}
}

// freeOnRemove returns a file system that has free space again after the removal of a write-ahead
// file. If fails is set, the removal fails, and the file remains.
func freeOnRemove(fs vfs.FS, full *atomic.Bool, fails bool) vfs.FS {
	return vfstest.Inject(fs, func(op vfstest.Op, name string) error {
		if op == vfstest.OpRemove && strings.Contains(name, "wal-") {
			if full.Store(false); fails {
				return syscall.EBUSY
			}
		}
		return nil
	})
}

// TestFullDiskDropRestoresSpare checks that Drop restores the spare file, so that a Drop also
// succeeds when the disk is full again.
func TestFullDiskDropRestoresSpare(t *testing.T) {
	var full atomic.Bool
	h := crashHooksOn(freeOnRemove(diskFull(vfstest.NewMem(), &full, true), &full, false))
	s := openWith(t, crashDir, nil, h)
	for range 3 {
		mustAppend(t, s, "k", "v")
		full.Store(true)
		must.Do(t, s.Drop(t.Context()))
		wantValue(t, s, "k", "")
	}
	must.Do(t, s.Close())
}

// TestFullDiskDropLeavesFiles checks that a Drop on a full disk succeeds even if it cannot remove
// the write-ahead files. After a kill, Open must not confuse these files with the new file.
func TestFullDiskDropLeavesFiles(t *testing.T) {
	mem := vfstest.NewMem()
	var full, segmentsFail atomic.Bool
	h := crashHooksOn(vfstest.Inject(freeOnRemove(diskFull(mem, &full, true), &full, true), failSegmentWrites(&segmentsFail)))
	s := openWith(t, crashDir, nil, h)
	mustAppend(t, s, "k", "v")
	segmentsFail.Store(true)
	mustBeFull(t, "Flush", s.Flush(t.Context())) // begins the next write-ahead file
	mustAppend(t, s, "k", "v")
	full.Store(true)
	must.Do(t, s.Drop(t.Context()))
	segmentsFail.Store(false)
	mustAppend(t, s, "k", "new")
	killed := mem.KillClone()
	_ = s.Close() // cannot remove the write-ahead file
	wantContent(t, killed, map[string][]byte{"k": []byte("new")})
}
