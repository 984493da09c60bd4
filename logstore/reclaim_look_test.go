package logstore

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/internal/vfs/vfstest"
)

// TestReclaimAfterSets sets keys repeatedly, which frees little, and then deletes other
// keys. It checks that the space of those is still freed: after sets of one key, and
// after sets of so many keys that a measurement found too little.
func TestReclaimAfterSets(t *testing.T) {
	for _, keys := range []int{1, 5000} {
		t.Run(fmt.Sprint(keys), func(t *testing.T) {
			dir := t.TempDir()
			s := opener(t, dir, &Options{Memory: MinMemory, FileSize: 4 << 20}, hooks{fs: vfs.OS{}, reclaimSlack: 2 << 20})()
			for i := range 20 << 10 {
				mustAppend(t, s, fmt.Sprint(i%256), strings.Repeat("v", 1000))
			}
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i := range 20_000 {
				if err := s.Set(t.Context(), fmt.Sprint("key ", i%keys), fmt.Append(nil, i)); err != nil {
					t.Fatal(err)
				}
			}
			settle(t, s)
			s.mu.Lock()
			if keys > 1 {
				if s.reclaim.share > 1.0/4 {
					t.Errorf("after %d keys were set, a share of %f is taken for dead", keys, s.reclaim.share)
				}
				s.reclaim.next = time.Now().Add(time.Hour) // prevents any other measurement
			} else if s.reclaim.share < 1 {
				t.Errorf("after one key was set, a share of %f is taken for dead", s.reclaim.share)
			}
			s.mu.Unlock()
			for i := range 256 {
				if err := s.Delete(t.Context(), fmt.Sprint(i)); err != nil {
					t.Fatal(err)
				}
			}
			settle(t, s)
			if keys > 1 { // simulate that time has passed
				s.mu.Lock()
				s.reclaim.next, s.reclaim.waiting = time.Now().Add(10*time.Millisecond), false
				s.considerMerge()
				s.mu.Unlock()
			}
			for i := 0; disk(t, dir, "seg-") > 5<<20; i++ {
				if time.Sleep(10 * time.Millisecond); i == 1000 {
					t.Fatalf("%d bytes are still there", disk(t, dir, "seg-"))
				}
			}
			settle(t, s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// denseFS is a file system without sparse files.
type denseFS struct{ vfs.FS }

type denseFile struct{ vfs.File }

func (d denseFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return denseFile{f}, nil
}

func (f denseFile) Info() (vfs.Info, error) {
	info, err := f.File.Info()
	info.Disk = info.Size
	return info, err
}

// TestReclaimWithoutHoles checks that, without sparse files, a blob file is copied only
// once.
func TestReclaimWithoutHoles(t *testing.T) {
	copies := 0
	mem := vfstest.Inject(vfstest.NewMem(), func(op vfstest.Op, name string) error {
		if op == vfstest.OpRename && strings.Contains(name, blobTmpName) {
			copies++
		}
		return nil
	})
	h := reclaimHooks
	h.fs, h.reclaimSlack = denseFS{mem}, -1
	s := opener(t, "/s", &Options{Memory: MinMemory, FileSize: 64 << 10}, h)()
	value := strings.Repeat("v", 20_000)
	for i := range 21 {
		mustAppend(t, s, fmt.Sprint(i), value)
	}
	for i := range 20 {
		if i%4 < 3 { // keep the last value of each file
			if err := s.Delete(t.Context(), fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	reclaimNow(t, s, 1<<10)
	first := copies
	for range 3 {
		reclaimNow(t, s, 1<<10)
	}
	wantValue(t, s, "3", value)
	if first == 0 || copies > first {
		t.Errorf("%d copies, and then %d", first, copies-first)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReclaimAfterFullDisk checks that deletes which could not be flushed to a full disk
// are measured later.
func TestReclaimAfterFullDisk(t *testing.T) {
	var full atomic.Bool
	mem := vfstest.NewMem()
	h := reclaimHooks
	h.reclaimSlack = -1
	h.fs = vfstest.Inject(mem, func(op vfstest.Op, name string) error {
		if full.Load() && op == vfstest.OpWrite && strings.Contains(name, "seg-") {
			return syscall.ENOSPC
		}
		return nil
	})
	s := opener(t, "/s", reclaimOpts, h)()
	for i := range 100 {
		mustAppend(t, s, fmt.Sprint(i%10), strings.Repeat("v", 500))
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	for i := range 10 {
		if err := s.Delete(t.Context(), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	reclaimNow(t, s, 1<<10)
	full.Store(false)
	s.mu.Lock()
	s.reclaim.next = time.Time{} // simulate that time has passed
	s.considerMerge()
	s.mu.Unlock()
	settle(t, s)
	if n := dataBytesOf(t, mem, s); n > 8<<10 {
		t.Errorf("%d bytes are still there", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMeasureAfterDrop checks that a measurement after Drop, with no segments to read,
// fails and leaves the learned share unchanged.
func TestMeasureAfterDrop(t *testing.T) {
	s := opener(t, "/s", nil, hooks{fs: vfstest.NewMem()})()
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // as Drop does
	if _, err := s.measureWaste(ctx, nil, 1<<40); err == nil || s.reclaim.share < 1 {
		t.Errorf("%v, and a share of %g is dead", err, s.reclaim.share)
	}
}
