package filedir

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// nameOf returns the name of a key's file. Even if it returns an error, the name is set.
//
// A key that Python wrote as a tuple has a file in a subdirectory. Older versions of this package
// used a flat name, directly in the store's directory. nameOf returns the flat name if such a file
// exists, or if another file prevents the use of the subdirectory.
func (t *tree) nameOf(key string) (string, error) {
	flat := t.scheme.Name(key)
	tuplePath, ok := t.scheme.TuplePath(key)
	if !ok {
		return flat, nil
	}
	exists, possible, err := t.statTuple(tuplePath)
	if err != nil || !possible {
		return flat, err
	}
	_, err = t.fs.Info(t.path(flat))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return tuplePath, nil
	case err == nil && exists:
		err = t.twoFilesError(flat, tuplePath)
	}
	return flat, err
}

func (t *tree) twoFilesError(flat, tuple string) error {
	return fmt.Errorf("the key's value is in two files, %s and %s: move one of them out of the directory", t.path(flat), t.path(tuple))
}

// statTuple reports whether a tuple's file exists at the path tuple, which Python uses. possible
// means that the file exists or could be created there.
func (t *tree) statTuple(tuple string) (exists, possible bool, err error) {
	for i, c := range tuple + "/" {
		if c != '/' {
			continue
		}
		name := t.path(tuple[:i])
		info, err := t.fs.Info(name)
		if errors.Is(err, fs.ErrNotExist) {
			return false, true, nil
		}
		if l, ok := t.fs.(vfs.LinkChecker); ok && err == nil {
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

var errNameIsDir = errors.New("the name of the key's file is in use for a directory, because there are tuples that begin with the key: delete those tuples first")

// isEmptyTupleDir reports whether name is a directory that contains no tuples.
func (t *tree) isEmptyTupleDir(name string) bool {
	return t.isDir(t.path(name)) && t.eachName(name+"/", true, func(string, names.Kind) error { return errNameIsDir }) == nil
}

// freeName removes the directory called name, so that a file can have the name. Such directories
// remain after the tuples in them were deleted, by this package or by Python.
func (t *tree) freeName(name string) error {
	t.removeDirs(name + "/")
	if t.fs.Remove(t.path(name)) != nil {
		return errNameIsDir
	}
	return nil
}

// removeDirs removes the empty tuple directories in a directory and its subdirectories. below is
// the directory's path from the store's directory: "", or a path that ends in a slash.
func (t *tree) removeDirs(below string) {
	dir, err := t.fs.ReadDir(t.path(below))
	if err != nil {
		return
	}
	var names []string
	for err == nil {
		var entries []fs.DirEntry
		entries, err = dir.Next(listBatch)
		for _, e := range entries {
			if _, ok := t.scheme.TupleKey(below + e.Name() + "/x"); ok && e.IsDir() {
				names = append(names, below+e.Name())
			}
		}
	}
	t.warn("closing a directory", dir.Close())
	for _, name := range names {
		t.removeDirs(name + "/")
		_ = t.fs.Remove(t.path(name)) // fails, as intended, if the directory is not empty
		t.markNamesDirty(name)
	}
}
