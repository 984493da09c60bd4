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

// nameOf returns the name of a key's file. That of a tuple is a path, as Python's is, unless
// a file is in its way, or the key has one beside the others: so File wrote it at first.
func (d *Dir) nameOf(key string) (string, error) {
	flat := d.scheme.Name(key)
	tuple, ok := d.scheme.TuplePath(key)
	if !ok {
		return flat, nil
	}
	there, possible, err := d.lookTuple(tuple)
	if err != nil || !possible {
		return flat, err
	}
	_, err = d.fs.Info(d.path(flat))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return tuple, nil
	case err == nil && there:
		err = d.twoFiles(flat, tuple)
	}
	return flat, err
}

func (d *Dir) twoFiles(flat, tuple string) error {
	return fmt.Errorf("its value is in two files, %s and %s: move one away", d.path(flat), d.path(tuple))
}

// lookTuple reports whether there is a file of a path, and whether there can be one.
func (d *Dir) lookTuple(tuple string) (there, possible bool, err error) {
	for i, c := range tuple + "/" {
		if c != '/' {
			continue
		}
		name := d.path(tuple[:i])
		info, err := d.fs.Info(name)
		if errors.Is(err, fs.ErrNotExist) {
			return false, true, nil
		}
		if l, ok := d.fs.(vfs.LinkTeller); ok && err == nil {
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

// makeParents makes the directories that the name of a file is in.
func (d *Dir) makeParents(name string) error {
	if !strings.Contains(name, "/") {
		return nil
	}
	d.noteNames(name)
	return d.fs.MkdirAll(d.path(path.Dir(name)), 0o777)
}

// noteNames notes that names changed in the directories that a file is in.
func (d *Dir) noteNames(name string) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if d.subdirs == nil {
			d.subdirs = map[string]struct{}{}
		}
		d.subdirs[dir] = struct{}{}
	}
}

// syncNames makes the names of files survive.
func (d *Dir) syncNames() error {
	for dir := range d.subdirs {
		if err := d.fs.SyncDir(d.path(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		delete(d.subdirs, dir)
	}
	return d.fs.SyncDir(d.dir)
}

// findTuple finds the file of a key again, if it is a tuple.
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

var errInTheWay = errors.New("tuples that begin with it are in a directory of its name: delete those first")

// isDir reports whether a path is that of a directory, and no link to one.
func (d *Dir) isDir(path string) bool {
	if l, ok := d.fs.(vfs.LinkTeller); ok {
		if link, err := l.IsLink(path); err != nil || link {
			return false
		}
	}
	info, err := d.fs.Info(path)
	return err == nil && info.Mode.IsDir()
}

// leftEmpty reports whether a name is that of a directory in which no tuple is left.
func (d *Dir) leftEmpty(name string) bool {
	return d.isDir(d.path(name)) && d.eachName(name+"/", true, func(string, names.Kind) error { return errInTheWay }) == nil
}

// clearWay makes room for a file where there is a directory: it is left behind when tuples
// are deleted, as by Python.
func (d *Dir) clearWay(name string) error {
	d.removeDirs(name + "/")
	if d.fs.Remove(d.path(name)) != nil {
		return errInTheWay
	}
	return nil
}

// removeDirs removes the directories below one, which ends in a slash, that can have been
// made for tuples and are empty.
func (d *Dir) removeDirs(below string) {
	dir, err := d.fs.ReadDir(d.path(below))
	if err != nil {
		return // it is gone, or stays
	}
	var found []string
	for err == nil {
		var entries []fs.DirEntry
		entries, err = dir.Next(dirBunch)
		for _, e := range entries {
			if _, ok := d.scheme.TupleKey(below + e.Name() + "/x"); ok && e.IsDir() {
				found = append(found, below+e.Name())
			}
		}
	}
	d.warn("closing a directory", dir.Close())
	for _, name := range found {
		d.removeDirs(name + "/")
		_ = d.fs.Remove(d.path(name)) // which says whether it is empty
		d.noteNames(name)
	}
}
