package logstore

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/engine/segment"
)

func dataName(dir string, kind segment.FileKind, number uint32) string {
	format := "seg-%08d"
	if kind == segment.BlobFile {
		format = "blob-%08d"
	}
	return filepath.Join(dir, fmt.Sprintf(format, number))
}

type dataFile struct {
	segment.File
	f           vfs.File
	end         int64       // offset of the next segment or blob; in blob files, blobs.mu guards it
	dirty       atomic.Bool // written since the last sync
	copiedBytes int64       // total size of the blobs if the file was made by copyBlobs; otherwise 0
}

func (f *dataFile) size() (int64, error) {
	info, err := f.f.Info()
	return info.Size, err
}

func (f *dataFile) open(fs vfs.FS, flag int) error {
	file, err := fs.OpenFile(f.Path, flag, 0o666)
	if err != nil {
		return err
	}
	f.f, f.ReaderAt = file, file
	return nil
}

// check returns the file's size, or an error if the header is damaged or the file is truncated.
func (f *dataFile) check() (int64, error) {
	size, err := f.size()
	if err != nil {
		return 0, err
	}
	if err := f.CheckHeader(); err != nil {
		return 0, err
	}
	if size < f.end {
		return 0, f.Corrupt(size, fmt.Errorf("the file is truncated: the manifest says that it has %d bytes", f.end))
	}
	return size, nil
}

// fileSet contains a store's data files. It closes them once neither the store nor a reader uses
// the set. Drop replaces the store's set.
type fileSet struct {
	refs  atomic.Int32
	list  atomic.Pointer[[]*dataFile] // copy-on-write
	locks []vfs.Lock                  // locks held for readers: see lockForReaders
}

func newFileSet() *fileSet {
	fs := &fileSet{}
	fs.refs.Store(1)
	fs.list.Store(new([]*dataFile))
	return fs
}

func (fs *fileSet) files() []*dataFile { return *fs.list.Load() }

// replace removes files from the set and adds new ones. Readers can still use the removed
// files. catalog.mu must be held if other goroutines can use the store.
func (fs *fileSet) replace(removed []*dataFile, added ...*dataFile) {
	list := slices.DeleteFunc(slices.Clone(fs.files()), func(f *dataFile) bool { return slices.Contains(removed, f) })
	list = append(list, added...)
	fs.list.Store(&list)
}

func (fs *fileSet) file(number uint32, kind segment.FileKind) *dataFile {
	for _, f := range fs.files() {
		if f.Number == number && f.Kind == kind {
			return f
		}
	}
	return nil
}

func (fs *fileSet) release() error {
	if fs.refs.Add(-1) > 0 {
		return nil
	}
	var errs []error
	for _, f := range fs.files() {
		errs = append(errs, f.f.Close())
	}
	for _, l := range fs.locks {
		errs = append(errs, l.Unlock())
	}
	return errors.Join(errs...)
}

// onDisk returns the disk space that the file uses, not counting holes, or 0 if it is unknown.
func (f *dataFile) onDisk() int64 {
	info, err := f.f.Info()
	if err != nil {
		return 0
	}
	return min(info.Disk, info.Size)
}
