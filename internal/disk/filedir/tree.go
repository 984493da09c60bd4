package filedir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// tree is the directory with its subdirectories: which files it has, and which of their names are
// not synced yet.
type tree struct {
	*env
	cache   *cache
	scheme  names.Scheme
	subdirs map[string]struct{} // subdirectories whose changed file names are not synced
	parents []string            // directories that may contain unsynced names of new subdirectories
}

// nameList stores many names in little memory.
type nameList struct {
	bytes []byte
	ends  []int
}

func (l *nameList) len() int { return len(l.ends) }

func (l *nameList) add(name string) {
	l.bytes = append(l.bytes, name...)
	l.ends = append(l.ends, len(l.bytes))
}

func (l *nameList) name(i int) string {
	start := 0
	if i > 0 {
		start = l.ends[i-1]
	}
	return string(l.bytes[start:l.ends[i]])
}

// listBatch is the number of directory entries to read in one call. Keys also releases the lock
// after examining this number of files.
const listBatch = 1024

// eachName calls visit for each file in a directory and its subdirectories. dirPrefix is the directory's
// path relative to the store's directory: "", or a path that ends in a slash. A file that is not part
// of a store causes an error if strict is true; otherwise it is skipped.
func (t *tree) eachName(dirPrefix string, strict bool, visit func(name string, kind names.Kind) error) (err error) {
	dir, err := retry(t.cache, func() (vfs.Dir, error) { return t.fs.ReadDir(t.path(dirPrefix)) })
	if dirPrefix != "" && errors.Is(err, fs.ErrNotExist) {
		return nil // the subdirectory is gone: Python's partd can drop a store without taking the lock
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	for {
		entries, err := dir.Next(listBatch)
		for _, e := range entries {
			name, kind := dirPrefix+e.Name(), names.Foreign
			if e.IsDir() {
				if err := t.eachName(name+"/", strict, visit); err != nil {
					return err
				}
				continue
			}
			if _, ok := t.scheme.TupleKey(name); ok && dirPrefix != "" {
				kind = names.Short
			} else if dirPrefix == "" {
				_, kind = t.scheme.Parse(name)
			}
			switch {
			case kind != names.Foreign && e.Type().IsRegular():
				if err := visit(name, kind); err != nil {
					return err
				}
			case strict && kind != names.Own:
				return fmt.Errorf("%s was not written by partd, in Go or Python, and may contain a key: move it out of the directory", t.path(name))
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// listFiles returns the names of the files with values. If matches is not nil, it omits names that do
// not match. For strict, see eachName.
func (t *tree) listFiles(strict bool, matches func(name string) bool) (*nameList, error) {
	list := new(nameList)
	err := t.eachName("", strict, func(name string, kind names.Kind) error {
		if (kind == names.Short || kind == names.Long) && (matches == nil || matches(name)) {
			list.add(name)
		}
		return nil
	})
	return list, err
}

// openOwn opens a file that does not belong to a key, such as the journal. If the file does not
// exist, openOwn creates it or, if create is false, returns nil.
func (t *tree) openOwn(path string, create bool) (vfs.File, error) {
	file, err := t.cache.open(path, os.O_RDWR)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	if !create {
		return nil, nil
	}
	file, err = t.cache.open(path, os.O_RDWR|os.O_CREATE)
	if err != nil || !t.sync {
		return file, err
	}
	// Sync the new name, so that a power loss does not remove the file with its data.
	if err := t.refuseWrites(t.syncNames()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func (t *tree) makeParents(name string) error {
	if !strings.Contains(name, "/") {
		return nil
	}
	t.markNamesDirty(name)
	return t.fs.MkdirAll(t.path(path.Dir(name)), 0o777)
}

// markNamesDirty records that the names in the parent directories of the file called name are not
// synced.
func (t *tree) markNamesDirty(name string) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if t.subdirs == nil {
			t.subdirs = map[string]struct{}{}
		}
		t.subdirs[dir] = struct{}{}
	}
}

func (t *tree) syncNames() error {
	for dir := range t.subdirs {
		if err := t.fs.SyncDir(t.path(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		delete(t.subdirs, dir)
	}
	return t.fs.SyncDir(t.dir)
}

// syncDirs makes the directory's own name and the names in the directory durable.
func (t *tree) syncDirs() error {
	if err := t.syncNames(); err != nil {
		return err
	}
	for len(t.parents) > 0 {
		if err := t.fs.SyncDir(t.parents[0]); err != nil {
			return err
		}
		t.parents = t.parents[1:]
	}
	return nil
}

// syncFiles syncs the files of all values and long keys.
func (t *tree) syncFiles(ctx context.Context) error {
	list, err := t.listFiles(false, nil)
	if err != nil {
		return err
	}
	for i := range list.len() {
		if err := checkContext(ctx, i); err != nil {
			return err
		}
		name := list.name(i)
		if err := t.cache.syncPath(t.path(name)); err != nil {
			return err
		}
		if keyName, isLong := names.KeyFile(name); isLong {
			if err := t.cache.syncPath(t.path(keyName)); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeValue removes the file with a key's value and, if the key is long, the file that contains
// the key itself.
func (t *tree) removeValue(name string) error {
	if err := t.removeFile(name); err != nil {
		return err
	}
	delete(t.cache.dirty.paths, t.path(name))
	return t.removeKeyText(name)
}

func (t *tree) removeFile(name string) error {
	t.markNamesDirty(name)
	if err := t.fs.Remove(t.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeKeyText removes the file that contains a long key. name is the name of the file with
// its value.
func (t *tree) removeKeyText(name string) error {
	keyName, ok := names.KeyFile(name)
	if !ok {
		return nil
	}
	return t.removeFile(keyName)
}

// removeOrphans removes files that contain long keys. Call it only if the directory contains no
// values.
func (t *tree) removeOrphans() error {
	var orphans []string
	err := t.eachName("", false, func(name string, kind names.Kind) error {
		if kind == names.Own && name != names.Lock && name != names.Journal && name != names.Sessions {
			orphans = append(orphans, name)
		}
		return nil
	})
	for _, name := range orphans {
		err = errors.Join(err, t.fs.Remove(t.path(name)))
	}
	return err
}
