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

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
)

// smallDisk is a file system with little free space.
type smallDisk struct {
	vfs.OS
	free int64
}

func (d smallDisk) Free(string) (int64, error) { return d.free, nil }

// TestRegroupIsRefused checks that a reader fails before it reads anything if it needs more disk than
// allowed, more than other readers leave, or more than is free.
func TestRegroupIsRefused(t *testing.T) {
	b := filledBucket(t)
	const need = 12 << 20
	for name, c := range map[string]struct {
		opts Options
		used int64
		want string
	}{
		"option":        {Options{Disk: need * 9 / 10}, 0, "the disk option allows 11 MiB"},
		"other readers": {Options{Disk: 2 * need}, need * 3 / 2, "other readers use 18 MiB"},
		"a full disk":   {Options{Disk: 1 << 40, DiskDir: t.TempDir(), hooks: hooks{fs: smallDisk{free: need / 2}}}, 0, "only 6 MiB are free"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &rangeRecorder{Bucket: b, ranges: map[string][]interval{}}
			s := open(t, r, c.opts)
			s.disk.used.Add(c.used)
			content, err := readPart(t.Context(), s, 0, 1)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "disk=0") {
				t.Errorf("reading: error = %v, want one that contains %q and disk=0", err, c.want)
			}
			if len(content) > 0 || len(r.ranges) > 0 {
				t.Errorf("read %d keys and values from %d segments before failing, want none", len(content), len(r.ranges))
			}
			if errors.Is(err, syscall.ENOSPC) != (name == "a full disk") {
				t.Errorf("reading: error = %v; only a full disk must cause %v", err, syscall.ENOSPC)
			}
			if used := s.disk.used.Load(); used != c.used {
				t.Errorf("%d bytes are reserved, want %d", used, c.used)
			}
			s.opts.Disk, s.opts.hooks.fs = 1<<40, vfs.OS{}
			wantKeys(t, s, filledKeys)
		})
	}
	if _, err := Open(t.Context(), b, &Options{Disk: 1, DiskDir: filepath.Join(t.TempDir(), "none")}); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("Open() without the disk directory: error = %v, want one that names the directory", err)
	}
}

// TestRegroupStaysWithinDisk checks that a reader respects the disk limit even if it needs more disk than estimated,
// because the keys are distributed unevenly.
func TestRegroupStaysWithinDisk(t *testing.T) {
	mem := new(Memory)
	h := hooks{maxInline: -1, rangeBytes: 1 << 30, keyHash: func(string) uint64 { return 1 }} // all keys are in part 0 of many
	s := open(t, mem, Options{hooks: h})
	appendAll(t, s, 2000, 1000)
	s = open(t, mem, Options{Disk: 1 << 20, hooks: h, DiskDir: t.TempDir()})
	s.scans.limit = 0
	_, err := readPart(t.Context(), s, 0, 10)
	if err == nil || !strings.Contains(err.Error(), "the disk option allows 1 MiB") || s.disk.used.Load() != 0 {
		t.Errorf("reading: error = %v, want one that states the limit; %d bytes of disk are still reserved", err, s.disk.used.Load())
	}
}

// truncatedFile truncates a file before it is read.
type truncatedFile struct {
	vfs.File
}

func (f truncatedFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.Truncate(off + int64(len(p))/2); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

type truncatingFS struct{ vfs.OS }

func (c truncatingFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := c.OS.OpenFile(name, flag, perm)
	if flag&os.O_RDWR == 0 || strings.HasSuffix(name, ".lock") {
		return f, err
	}
	return truncatedFile{f}, err
}

// TestRegroupOnBadDisks uses a disk that fills up, or that loses or changes data. The error must say
// what failed, where, and what to do. No files may remain, and the store must still work.
func TestRegroupOnBadDisks(t *testing.T) {
	b := filledBucket(t)
	failWrites := func(op vfstest.Op, _ string) error {
		if op == vfstest.OpWrite {
			return vfstest.ShortWrite(syscall.ENOSPC)
		}
		return nil
	}
	for name, c := range map[string]struct {
		fs  vfs.FS
		err error
	}{
		"full disk":         {nil, syscall.ENOSPC},
		"lost data":         {truncatingFS{}, io.EOF},
		"flipped bit":       {&vfstest.Flip{Target: 3}, spill.ErrDamaged},
		"missing directory": {vfs.OS{}, fs.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.fs == nil {
				var writes int
				c.fs = vfstest.Inject(vfs.OS{}, func(op vfstest.Op, name string) error {
					if op == vfstest.OpWrite && strings.Contains(filepath.Base(name), "run-") {
						if writes++; writes > 2 {
							return failWrites(op, name)
						}
					}
					return nil
				})
			}
			s := open(t, b, Options{Disk: 1 << 30, DiskDir: dir, hooks: hooks{fs: c.fs}})
			if name == "missing directory" {
				must.Do(t, os.Remove(dir))
			}
			_, err := countKeys(t.Context(), s)
			if !errors.Is(err, c.err) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "disk=0") {
				t.Errorf("reading: error = %v, want %v, with the directory and disk=0", err, c.err)
			}
			t.Log(err)
			if s.disk.used.Load() != 0 || s.scans.used.Load() != 0 {
				t.Errorf("%d bytes of disk and %d of memory were not freed", s.disk.used.Load(), s.scans.used.Load())
			}
			s.opts.Disk = 0
			wantKeys(t, s, filledKeys)
			must.Check(t, s.Close())
			if remaining, err := os.ReadDir(dir); len(remaining) > 0 || err != nil && name != "missing directory" {
				t.Errorf("files remain in the disk directory: %v (error %v)", remaining, err)
			}
		})
	}
}

// TestRegroupStops checks that a reader that stops early, or whose context ends, leaves no files.
func TestRegroupStops(t *testing.T) {
	b := filledBucket(t)
	dir := t.TempDir()
	s := open(t, b, Options{Disk: 1 << 30, DiskDir: dir})
	for stop := range 3 {
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("canceled by the caller")
		n := 0
		for _, err := range s.Scan(ctx) {
			if n++; n == 10 && stop == 0 {
				break
			}
			if n == 10 {
				cancel(cause)
			}
			if err != nil && !errors.Is(err, cause) {
				t.Errorf("Scan() error = %v, want %v", err, cause)
			}
		}
		cancel(nil)
		if s.disk.used.Load() != 0 || s.scans.used.Load() != 0 || n > 100 {
			t.Errorf("%d bytes of disk and %d of memory were not freed; Scan() yielded %d chunks, want at most 100", s.disk.used.Load(), s.scans.used.Load(), n)
		}
	}
	must.Check(t, s.Close())
	if remaining, err := os.ReadDir(dir); len(remaining) > 0 || err != nil {
		t.Errorf("files remain in the disk directory: %v (error %v)", remaining, err)
	}
}

// TestRegroupIsKilled checks that a killed process leaves no temporary file, and that opening another store removes its
// directory.
func TestRegroupIsKilled(t *testing.T) {
	if dir := os.Getenv("PARTD_TEST_REGROUP"); dir != "" {
		s := open(t, filledBucket(t), Options{Disk: 1 << 30, DiskDir: dir})
		for range s.Scan(t.Context()) {
			procs.KillSelf()
		}
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestRegroupIsKilled$")
	cmd.Env = append(os.Environ(), "PARTD_TEST_REGROUP="+dir)
	if out, err := cmd.CombinedOutput(); err == nil || strings.Contains(string(out), "FAIL") {
		t.Fatalf("the process was not killed: %v\n%s", err, out)
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
	if err != nil || files != 1 || size > 1000 { // the lock file
		t.Errorf("the killed process left %d files with %d bytes (error %v), want only a lock file", files, size, err)
	}
	s := open(t, new(Memory), Options{Disk: 1, DiskDir: dir})
	if remaining, err := os.ReadDir(dir); len(remaining) > 0 || err != nil {
		t.Errorf("files remain in the disk directory: %v (error %v)", remaining, err)
	}
	must.Check(t, s.Close())
}
