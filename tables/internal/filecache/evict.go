package filecache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-partd/partd/internal/vfs"
)

// evict removes the files that were used longest ago, until a tenth of the limit is
// free, and what processes left that ended. It leaves what was just placed. Where
// another process does so, it returns.
func (c *Cache) evict(placed string) (err error) {
	l, err := vfs.TryLock(vfs.OS{}, filepath.Join(c.dir, "evict.lock"), true)
	if l == nil || err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	type file struct {
		path string
		size int64
		used time.Time
	}
	var files []file
	var total int64
	err = filepath.WalkDir(filepath.Join(c.dir, "files"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				files = append(files, file{path, info.Size(), info.ModTime()})
				total += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // removed meanwhile
		}
		return err
	})
	if err != nil {
		return err
	}
	if total > c.limit {
		slices.SortFunc(files, func(a, b file) int { return a.used.Compare(b.used) })
		for _, f := range files {
			if total <= c.limit/10*9 {
				break
			}
			if f.path == placed {
				continue
			}
			if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			total -= f.size
		}
	}
	c.mu.Lock()
	c.used, c.placed = total, 0
	c.mu.Unlock()
	return c.temp.Sweep()
}
