package filedir

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// nameOf returns the name of a key's file. It returns a name even if it also returns an error.
//
// A key that Python wrote as a tuple has a file in a subdirectory. If another file prevents the use
// of the subdirectory, or if a file with the flat name exists already, nameOf returns the flat name,
// which is directly in the store's directory.
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

// statTuple reports whether a tuple's file exists at the path where Python stores it. possible means
// that the file exists or could be created there.
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
			err = linkErr
			if link {
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

var errNameIsDir = errors.New("the key's file cannot be created, because a directory has its name: delete the tuples that begin with the key first")

// isEmptyTupleDir reports whether name is a directory that contains no tuples.
func (t *tree) isEmptyTupleDir(name string) bool {
	return t.isDir(t.path(name)) && t.eachName(name+"/", true, func(string, names.Kind) error { return errNameIsDir }) == nil
}

// freeName removes the directory called name, so that a file can have that name. Such directories
// remain after this package or Python has deleted the tuples in them.
func (t *tree) freeName(name string) error {
	t.removeDirs(name + "/")
	if t.fs.Remove(t.path(name)) != nil {
		return errNameIsDir
	}
	return nil
}

// removeDirs removes the empty tuple directories in a directory and its subdirectories. dirPrefix is the
// directory's path relative to the store's directory: "", or a path that ends in a slash.
func (t *tree) removeDirs(dirPrefix string) {
	dir, err := t.fs.ReadDir(t.path(dirPrefix))
	if err != nil {
		return
	}
	var names []string
	for err == nil {
		var entries []fs.DirEntry
		entries, err = dir.Next(listBatch)
		for _, e := range entries {
			if _, ok := t.scheme.TupleKey(dirPrefix + e.Name() + "/x"); ok && e.IsDir() {
				names = append(names, dirPrefix+e.Name())
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

// openedFile is an open value file, with the size that it had when it was opened.
type openedFile struct {
	file vfs.File // nil if the key does not exist
	size int64
}

func (f *openedFile) close() error { return closeOnce(&f.file) }

func readOpened(f openedFile) ([]byte, error) {
	if f.file == nil || f.size == 0 {
		return nil, nil
	}
	value := make([]byte, f.size)
	return value, readFull(f.file, value, 0)
}

func truncatedError(offset, size int64) error {
	return fmt.Errorf("%w: another process truncated the file to %d bytes or less during the read, from %d: read the key again",
		io.ErrUnexpectedEOF, offset, size)
}

// maxKeyLen equals partd.MaxKeyLen.
const maxKeyLen = 1<<16 - 1

// openValue opens a value file. The lock must be held.
func (t *tree) openValue(name string) (openedFile, error) {
	file, err := t.cache.open(t.path(name), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return openedFile{}, nil
	}
	if err != nil {
		return openedFile{}, err
	}
	info, err := regularInfo(file)
	if errors.Is(err, errNotRegular) && t.isEmptyTupleDir(name) {
		return openedFile{}, nil
	}
	if err != nil {
		return openedFile{}, err
	}
	return openedFile{file, info.Size}, nil
}

func (t *tree) openKeyValue(key string) (openedFile, error) {
	name, err := t.nameOf(key)
	if err != nil {
		return openedFile{}, err
	}
	return t.openValue(name)
}

func (t *tree) readValue(key string) ([]byte, error) {
	f, err := t.openKeyValue(key)
	if err != nil {
		return nil, err
	}
	value, err := readOpened(f)
	return value, errors.Join(err, f.close())
}

func (t *tree) keyOf(name string) (string, error) {
	if key, ok := t.scheme.TupleKey(name); ok && strings.Contains(name, "/") {
		flat := t.scheme.Name(key)
		if _, err := t.fs.Info(t.path(flat)); !errors.Is(err, fs.ErrNotExist) {
			return "", cmp.Or(err, t.twoFilesError(flat, name))
		}
		return key, nil
	}
	key, kind := t.scheme.Parse(name)
	if kind == names.Short {
		return key, nil
	}
	keyName, _ := names.KeyFile(name)
	path := t.path(keyName)
	f, err := t.openValue(keyName)
	if err != nil {
		return "", err
	}
	if f.file == nil {
		return "", t.corrupt(path, -1, fmt.Errorf("%w: it should contain the key of the value in %s", fs.ErrNotExist, name))
	}
	if f.size > maxKeyLen {
		err = t.corrupt(path, maxKeyLen, fmt.Errorf("it has %d bytes, but the maximum length of a key is %d", f.size, maxKeyLen))
		return "", errors.Join(err, f.close())
	}
	text, err := readOpened(f)
	if err := errors.Join(err, f.close()); err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	if hex.EncodeToString(sum[:]) != keyName[len(keyName)-2*len(sum):] {
		return "", t.corrupt(path, -1, errors.New("its name is not the hash of its content, which should be a key"))
	}
	return string(text), nil
}
