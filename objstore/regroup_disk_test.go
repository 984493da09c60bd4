package objstore

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-partd/partd/internal/spill"
	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/internal/vfs/vfstest"
)

// smallDisk has little room.
type smallDisk struct {
	vfs.OS
	free int64
}

func (d smallDisk) Free(string) (int64, error) { return d.free, nil }

// Who needs more disk than allowed, than others leave, or than is free is refused before
// anything is read.
func TestRegroupIsRefused(t *testing.T) {
	b := filled(t)
	const need = 12 << 20
	for name, c := range map[string]struct {
		opts Options
		used int64
		want string
	}{
		"the option":  {Options{Disk: need * 9 / 10}, 0, "the option disk allows 11 MiB"},
		"others":      {Options{Disk: 2 * need}, need * 3 / 2, "other readers have 18 MiB"},
		"a full disk": {Options{Disk: 1 << 40, DiskDir: t.TempDir(), hooks: hooks{fs: smallDisk{free: need / 2}}}, 0, "which has 6 MiB left"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &requested{Bucket: b, all: map[string][]interval{}}
			s := open(t, r, c.opts)
			s.disk.Add(c.used)
			all, err := readPart(t.Context(), s, 0, 1)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "disk=0") {
				t.Error(err)
			}
			if len(all) > 0 || len(r.all) > 0 {
				t.Errorf("%d keys, %d segments were read", len(all), len(r.all))
			}
			if errors.Is(err, syscall.ENOSPC) != (name == "a full disk") {
				t.Error(err)
			}
			if used := s.disk.Load(); used != c.used {
				t.Errorf("%d bytes are taken, not %d", used, c.used)
			}
			s.opts.Disk, s.opts.hooks.fs = 1<<40, vfs.OS{}
			if n := count(t, s); n != filledKeys {
				t.Error(n)
			}
		})
	}
	if _, err := Open(t.Context(), b, &Options{Disk: 1, DiskDir: filepath.Join(t.TempDir(), "none")}); err == nil || !strings.Contains(err.Error(), "none") {
		t.Error(err)
	}
}

// A store whose keys are not spread evenly, so that a part needs more than it seemed,
// stays within the disk that it may have.
func TestRegroupStaysWithinDisk(t *testing.T) {
	mem := new(Memory)
	h := hooks{inline: -1, rangeBytes: 1 << 30, keyHash: func(string) uint64 { return 1 }} // all are in part 0 of many
	s := open(t, mem, Options{hooks: h})
	appendAll(t, s, 2000, 1000)
	s = open(t, mem, Options{Disk: 1 << 20, hooks: h, DiskDir: t.TempDir()})
	s.scans.limit = 0
	_, err := readPart(t.Context(), s, 0, 10)
	if err == nil || !strings.Contains(err.Error(), "the option disk allows 1 MiB") || s.disk.Load() != 0 {
		t.Error(err, s.disk.Load())
	}
}

// cut makes files shorter before they are read.
type cut struct {
	vfs.File
}

func (c cut) ReadAt(p []byte, off int64) (int, error) {
	if err := c.Truncate(off + int64(len(p))/2); err != nil {
		return 0, err
	}
	return c.File.ReadAt(p, off)
}

type cutting struct{ vfs.OS }

func (c cutting) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := c.OS.OpenFile(name, flag, perm)
	if flag&os.O_RDWR == 0 || strings.HasSuffix(name, ".lock") {
		return f, err
	}
	return cut{f}, err
}

// A disk that fills up, or loses or changes what was written, is an error that says what
// was done, where, and what to do. Afterwards nothing is left, and the store is as before.
func TestRegroupOnBadDisks(t *testing.T) {
	b := filled(t)
	full := func(op vfstest.Op, _ string) error {
		if op == vfstest.OpWrite {
			return vfstest.Short(syscall.ENOSPC)
		}
		return nil
	}
	for name, c := range map[string]struct {
		fs  vfs.FS
		err error
	}{
		"full":  {nil, syscall.ENOSPC},
		"lost":  {cutting{}, io.EOF},
		"flips": {&vfstest.Flip{At: 3}, spill.ErrDamaged},
		"gone":  {vfs.OS{}, fs.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.fs == nil {
				var writes int
				c.fs = vfstest.Inject(vfs.OS{}, func(op vfstest.Op, name string) error {
					if op == vfstest.OpWrite && strings.Contains(filepath.Base(name), "run-") {
						if writes++; writes > 2 {
							return full(op, name)
						}
					}
					return nil
				})
			}
			s := open(t, b, Options{Disk: 1 << 30, DiskDir: dir, hooks: hooks{fs: c.fs}})
			if name == "gone" {
				if err := os.Remove(dir); err != nil {
					t.Fatal(err)
				}
			}
			_, err := countKeys(t.Context(), s)
			if !errors.Is(err, c.err) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "disk=0") {
				t.Error(err)
			}
			t.Log(err)
			if s.disk.Load() != 0 || s.scans.used.Load() != 0 {
				t.Errorf("%d bytes of disk and %d of memory are not given back", s.disk.Load(), s.scans.used.Load())
			}
			s.opts.Disk = 0
			if n := count(t, s); n != filledKeys {
				t.Error(n)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(dir); len(left) > 0 || err != nil && name != "gone" {
				t.Error(left, err)
			}
		})
	}
}

// Who stops in the middle, or whose context ends, leaves nothing.
func TestRegroupStops(t *testing.T) {
	b := filled(t)
	dir := t.TempDir()
	s := open(t, b, Options{Disk: 1 << 30, DiskDir: dir})
	for stop := range 3 {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("the caller's")
		n := 0
		for _, err := range s.Scan(ctx) {
			if n++; n == 10 && stop == 0 {
				break
			}
			if n == 10 {
				cancel(why)
			}
			if err != nil && !errors.Is(err, why) {
				t.Error(err)
			}
		}
		cancel(nil)
		if s.disk.Load() != 0 || s.scans.used.Load() != 0 || n > 100 {
			t.Errorf("%d bytes of disk and %d of memory are not given back, %d chunks", s.disk.Load(), s.scans.used.Load(), n)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Error(left, err)
	}
}

// The temporary file of a process that is killed is gone, and its directory is, once
// another store is opened.
func TestRegroupIsKilled(t *testing.T) {
	if dir := os.Getenv("PARTD_TEST_REGROUP"); dir != "" {
		s := open(t, filled(t), Options{Disk: 1 << 30, DiskDir: dir})
		for range s.Scan(t.Context()) {
			p, err := os.FindProcess(os.Getpid())
			if err == nil {
				err = p.Kill()
			}
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestRegroupIsKilled$")
	cmd.Env = append(os.Environ(), "PARTD_TEST_REGROUP="+dir)
	if out, err := cmd.CombinedOutput(); err == nil || strings.Contains(string(out), "FAIL") {
		t.Fatalf("it was not killed: %v\n%s", err, out)
	}
	var files, size int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			info, err := e.Info()
			files, size = files+1, size+info.Size()
			return err
		}
		return err
	})
	if err != nil || files != 1 || size > 1000 { // the lock
		t.Errorf("%d files, %d bytes, %v", files, size, err)
	}
	s := open(t, new(Memory), Options{Disk: 1, DiskDir: dir})
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Error(left, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
