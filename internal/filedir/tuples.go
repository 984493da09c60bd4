package filedir

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/go-partd/partd/internal/names"
	"github.com/go-partd/partd/internal/vfs"
)

// nameOf returns the name of a key's file. For a tuple it is Python's path, unless a file is
// in its way, or the key already has a flat file, as in stores of older versions.
func (d *Dir) nameOf(key string) (string, error) {
	flat := d.scheme.Name(key)
	tuple, ok := d.scheme.TuplePath(key)
	if !ok {
		return flat, nil
	}
	present, possible, err := d.statTuple(tuple)
	if err != nil || !possible {
		return flat, err
	}
	_, err = d.fs.Info(d.path(flat))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return tuple, nil
	case err == nil && present:
		err = d.twoFiles(flat, tuple)
	}
	return flat, err
}

func (d *Dir) twoFiles(flat, tuple string) error {
	return fmt.Errorf("its value is in two files, %s and %s: move one of them out of the directory", d.path(flat), d.path(tuple))
}

// statTuple reports whether a tuple's file exists, and whether it can be created.
func (d *Dir) statTuple(tuple string) (present, possible bool, err error) {
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

// makeParents creates the parent directories of a file.
func (d *Dir) makeParents(name string) error {
	if !strings.Contains(name, "/") {
		return nil
	}
	d.markNamesDirty(name)
	return d.fs.MkdirAll(d.path(path.Dir(name)), 0o777)
}

// markNamesDirty marks the parent directories of a file as having unsynced changes.
func (d *Dir) markNamesDirty(name string) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if d.subdirs == nil {
			d.subdirs = map[string]struct{}{}
		}
		d.subdirs[dir] = struct{}{}
	}
}

// syncNames makes the names of files durable.
func (d *Dir) syncNames() error {
	for dir := range d.subdirs {
		if err := d.fs.SyncDir(d.path(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		delete(d.subdirs, dir)
	}
	return d.fs.SyncDir(d.dir)
}

// findTuple updates the path of a tuple's file, which may have moved.
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

var errInTheWay = errors.New("it is also the directory of tuples that begin with it: delete those tuples first")

// isDir reports whether path is a directory and not a link to one.
func (d *Dir) isDir(path string) bool {
	if l, ok := d.fs.(vfs.LinkChecker); ok {
		if link, err := l.IsLink(path); err != nil || link {
			return false
		}
	}
	info, err := d.fs.Info(path)
	return err == nil && info.Mode.IsDir()
}

// isEmptyTupleDir reports whether name is a directory without tuples.
func (d *Dir) isEmptyTupleDir(name string) bool {
	return d.isDir(d.path(name)) && d.eachName(name+"/", true, func(string, names.Kind) error { return errInTheWay }) == nil
}

// freeName removes an empty directory so that a file can have its name. Such directories
// remain, as in Python, after tuples are deleted.
func (d *Dir) freeName(name string) error {
	d.removeDirs(name + "/")
	if d.fs.Remove(d.path(name)) != nil {
		return errInTheWay
	}
	return nil
}

// removeDirs removes the empty directories of tuples below a directory, whose name ends in a
// slash.
func (d *Dir) removeDirs(below string) {
	dir, err := d.fs.ReadDir(d.path(below))
	if err != nil {
		return // nothing to remove, or not readable
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
		_ = d.fs.Remove(d.path(name)) // fails if it is not empty
		d.markNamesDirty(name)
	}
}
