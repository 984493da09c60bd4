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

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// TestReclaimAfterSets sets keys repeatedly, which frees little space, and then deletes other keys.
// The space of the deleted keys must be freed, both after sets of one key, and after sets of so many
// keys that a measurement found few dead bytes.
func TestReclaimAfterSets(t *testing.T) {
	for _, keys := range []int{1, 5000} {
		t.Run(fmt.Sprint(keys), func(t *testing.T) {
			dir := t.TempDir()
			s := opener(t, dir, &Options{Memory: MinMemory, FileSize: 4 << 20}, hooks{fs: vfs.OS{}, reclaimSlack: 2 << 20})()
			for i := range 20 << 10 {
				mustAppend(t, s, fmt.Sprint(i%256), strings.Repeat("v", 1000))
			}
			must.Do(t, s.Flush(t.Context()))
			for i := range 20_000 {
				must.Do(t, s.Set(t.Context(), fmt.Sprint("key ", i%keys), fmt.Append(nil, i)))
			}
			settle(t, s)
			s.mu.Lock()
			if keys > 1 {
				if s.reclaim.deadShare > 1.0/4 {
					t.Errorf("after sets of %d keys, the expected share of dead bytes is %f, want at most 1/4", keys, s.reclaim.deadShare)
				}
				s.reclaim.nextTime = time.Now().Add(time.Hour) // prevent another measurement
			} else if s.reclaim.deadShare < 1 {
				t.Errorf("after sets of one key, the expected share of dead bytes is %f, want 1", s.reclaim.deadShare)
			}
			s.mu.Unlock()
			for i := range 256 {
				must.Do(t, s.Delete(t.Context(), fmt.Sprint(i)))
			}
			settle(t, s)
			if keys > 1 { // simulate that time has passed
				s.mu.Lock()
				s.reclaim.nextTime, s.reclaim.hasTimer = time.Now().Add(10*time.Millisecond), false
				s.background.consider()
				s.mu.Unlock()
			}
			for i := 0; disk(t, dir, "seg-") > 5<<20; i++ {
				if time.Sleep(10 * time.Millisecond); i == 1000 {
					t.Fatalf("segments still use %d bytes after 10 seconds, want at most 5 MiB", disk(t, dir, "seg-"))
				}
			}
			settle(t, s)
			must.Do(t, s.Close())
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

// TestReclaimWithoutHoles checks that a blob file is copied only once on a file system without sparse files.
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
			must.Do(t, s.Delete(t.Context(), fmt.Sprint(i)))
		}
	}
	reclaimNow(t, s, 1<<10)
	first := copies
	for range 3 {
		reclaimNow(t, s, 1<<10)
	}
	wantValue(t, s, "3", value)
	if first == 0 || copies > first {
		t.Errorf("blob files were copied %d times at first and %d times later, want at least once and then never", first, copies-first)
	}
	must.Do(t, s.Close())
}

// TestReclaimAfterFullDisk deletes keys while a full disk prevents flushing. Their space must be freed later.
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
	must.Do(t, s.Flush(t.Context()))
	full.Store(true)
	for i := range 10 {
		must.Do(t, s.Delete(t.Context(), fmt.Sprint(i)))
	}
	reclaimNow(t, s, 1<<10)
	full.Store(false)
	s.mu.Lock()
	s.reclaim.nextTime = time.Time{} // simulate that time has passed
	s.background.consider()
	s.mu.Unlock()
	settle(t, s)
	if n := dataBytesOf(t, mem, s); n > 8<<10 {
		t.Errorf("data files still use %d bytes, want at most 8 KiB", n)
	}
	must.Do(t, s.Close())
}

// TestMeasureAfterDrop checks that a measurement without segments fails and keeps the expected share of dead bytes.
func TestMeasureAfterDrop(t *testing.T) {
	s := opener(t, "/s", nil, hooks{fs: vfstest.NewMem()})()
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // Drop cancels the context of a measurement
	if _, err := s.reclaimer.measureWaste(ctx, nil, 1<<40); err == nil || s.reclaim.deadShare < 1 {
		t.Errorf("measureWaste: error %v, want an error; the expected share of dead bytes is %g, want 1", err, s.reclaim.deadShare)
	}
}
