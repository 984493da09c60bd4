package namespaces

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/remote"
)

// List implements [remote.Namespaces].
func (s *Set) List(ctx context.Context, after string, limit int) ([]remote.NamespaceInfo, error) {
	files, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, f := range files {
		if name, ok := nameOf(f.Name()); ok && name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var infos []remote.NamespaceInfo
	for _, name := range names[:min(limit, len(names))] {
		if err := canceled.Err(ctx); err != nil {
			return nil, err
		}
		info := remote.NamespaceInfo{Name: name, Disk: diskOf(s.path(name))}
		if i, err := os.Stat(s.path(name)); err == nil {
			info.Used = i.ModTime()
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// diskOf adds up what the files of a store take, some of which may go meanwhile. Of one
// in whose middle dead data was given back that is less than its length; of one that was
// made longer ahead it is not what it may come to take.
func diskOf(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := (vfs.OS{}).Info(path); err == nil && info.Mode.IsRegular() {
			bytes += min(info.Size, info.Disk)
		}
		return nil
	})
	return bytes
}
