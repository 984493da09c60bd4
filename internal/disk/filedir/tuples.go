package filedir

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// nameOf returns the name of a key's file. Even if it returns an error, the name is set.
//
// A key that Python wrote as a tuple has a file in a subdirectory. Older versions of this package
// used a flat name, directly in the store's directory. nameOf returns the flat name if such a file
// exists, or if another file prevents the use of the subdirectory.
func (d *Dir) nameOf(key string) (string, error) {
	flat := d.scheme.Name(key)
	tuplePath, ok := d.scheme.TuplePath(key)
	if !ok {
		return flat, nil
	}
	exists, possible, err := d.statTuple(tuplePath)
	if err != nil || !possible {
		return flat, err
	}
	_, err = d.fs.Info(d.path(flat))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return tuplePath, nil
	case err == nil && exists:
		err = d.twoFilesError(flat, tuplePath)
	}
	return flat, err
}

func (d *Dir) twoFilesError(flat, tuple string) error {
	return fmt.Errorf("the key's value is in two files, %s and %s: move one of them out of the directory", d.path(flat), d.path(tuple))
}

// statTuple reports whether a tuple's file exists at the path tuple, which Python uses. possible
// means that the file exists or could be created there.
func (d *Dir) statTuple(tuple string) (exists, possible bool, err error) {
	for i, c := range tuple + "/" {
		if c != '/' {
			continue
		}
		name := d.path(tuple[:i])
		info, err := d.fs.Info(name)
		if errors.Is(err, fs.ErrNotExist) {
			return false, true, nil
		}
		if l, ok := d.fs.(vfs.LinkChecker); ok && err == nil {
			link, linkErr := l.IsLink(name)
			if err = linkErr; link {
				return false, false, nil
			}
		}
		if err != nil {
			return false, false, err
		}
		if i == len(tuple) {
			return info.Mode.IsRegular(), info.Mode.IsRegular(), nil
		}
		if !info.Mode.IsDir() {
			return false, false, nil
		}
	}
	return false, false, nil
}

func (d *Dir) makeParents(name string) error {
	if !strings.Contains(name, "/") {
		return nil
	}
	d.markNamesDirty(name)
	return d.fs.MkdirAll(d.path(path.Dir(name)), 0o777)
}

// markNamesDirty records that the names in the parent directories of the file called name are not
// synced.
func (d *Dir) markNamesDirty(name string) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if d.subdirs == nil {
			d.subdirs = map[string]struct{}{}
		}
		d.subdirs[dir] = struct{}{}
	}
}

func (d *Dir) syncNames() error {
	for dir := range d.subdirs {
		if err := d.fs.SyncDir(d.path(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		delete(d.subdirs, dir)
	}
	return d.fs.SyncDir(d.dir)
}

// findTuple updates k.path if k.key is a tuple and another process has moved its file.
func (d *Dir) findTuple(k *keyFile) error {
	if _, ok := d.scheme.TuplePath(k.key); !ok {
		return nil
	}
	name, err := d.nameOf(k.key)
	if err != nil || d.path(name) == k.path {
		return err
	}
	err = d.closeFile(k)
	k.path = d.path(name)
	return err
}

var errNameIsDir = errors.New("the name of the key's file is in use for a directory, because there are tuples that begin with the key: delete those tuples first")

// isDir reports whether path is a directory. It returns false for a link to a directory.
func (d *Dir) isDir(path string) bool {
	if l, ok := d.fs.(vfs.LinkChecker); ok {
		if link, err := l.IsLink(path); err != nil || link {
			return false
		}
	}
	info, err := d.fs.Info(path)
	return err == nil && info.Mode.IsDir()
}

// isEmptyTupleDir reports whether name is a directory that contains no tuples.
func (d *Dir) isEmptyTupleDir(name string) bool {
	return d.isDir(d.path(name)) && d.eachName(name+"/", true, func(string, names.Kind) error { return errNameIsDir }) == nil
}

// freeName removes the directory called name, so that a file can have the name. Such directories
// remain after the tuples in them were deleted, by this package or by Python.
func (d *Dir) freeName(name string) error {
	d.removeDirs(name + "/")
	if d.fs.Remove(d.path(name)) != nil {
		return errNameIsDir
	}
	return nil
}

// removeDirs removes the empty tuple directories in a directory and its subdirectories. below is
// the directory's path from the store's directory: "", or a path that ends in a slash.
func (d *Dir) removeDirs(below string) {
	dir, err := d.fs.ReadDir(d.path(below))
	if err != nil {
		return
	}
	var names []string
	for err == nil {
		var entries []fs.DirEntry
		entries, err = dir.Next(listBatch)
		for _, e := range entries {
			if _, ok := d.scheme.TupleKey(below + e.Name() + "/x"); ok && e.IsDir() {
				names = append(names, below+e.Name())
			}
		}
	}
	d.warn("closing a directory", dir.Close())
	for _, name := range names {
		d.removeDirs(name + "/")
		_ = d.fs.Remove(d.path(name)) // fails, as intended, if the directory is not empty
		d.markNamesDirty(name)
	}
}
