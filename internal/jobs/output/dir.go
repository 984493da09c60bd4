package output

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/tempdir"
)

var (
	ErrNotEmpty = errors.New("the directory is not empty")
	ErrIsFile   = errors.New("it is a file, not a directory")
)

// Dir is a directory that is filled with files. They appear only when all are complete. Its methods are safe for
// concurrent use.
type Dir struct {
	Nearby *tempdir.Set // for temporary files on the directory's file system
	// Visible makes CreateFile write a first "." or "_" of a name as %XX. Readers of directories omit files with such
	// names.
	Visible bool

	// Others says what Commit does with files that the directory already contains and that IsKeyFile reports.
	Others Others
	// IsKeyFile reports whether this job could give a path to the file of a key or, for directories, to a directory with
	// such files. The path is relative and has slashes.
	IsKeyFile func(path string, isDir bool) bool
	// Durable makes Commit sync the files. After a power loss, the directory has either the earlier files or the new ones.
	Durable bool

	path   string
	exists bool
	temp   string // contains the files until Commit
	undo   func()
	lock   *os.File // the directory, if it exists

	mu      sync.Mutex
	names   []string
	parents map[string]bool // directories of files

	continued map[string]bool            // existing files that new ones continue
	realDirs  map[string]bool            // parents of files that Commit has checked
	spelled   map[string]map[string]bool // the names in the directories that checkSpelling has read
}

// capitalName is the name of a temporary directory, which shows whether the file system keeps capitals.
const capitalName = "New"

// KeepsCase reports whether the file system keeps the capitals in names. [Dir.Commit] and [Dir.Abort] must not have been
// called.
func (d *Dir) KeepsCase() (bool, error) {
	entries, err := os.ReadDir(filepath.Dir(filepath.Dir(d.temp)))
	return len(entries) == 1 && entries[0].Name() == capitalName, err
}

// CheckDir returns an error that wraps [ErrNotEmpty] if a directory contains files, or [ErrIsFile] if it is a file. If a
// killed run has begun a commit, CheckDir completes it and returns an error that wraps [ErrFinished]. It removes leftover
// files of other killed runs. The directory need not exist.
func CheckDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s: %w", dir, ErrIsFile)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	hasFinished, err := finishCommit(dir, syncDir)
	if err := errors.Join(err, lock.Close()); err != nil {
		return err
	}
	if hasFinished {
		return fmt.Errorf("%s: %w", dir, ErrFinished)
	}
	if _, err := tempdir.New([]string{dir}, nil); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s: %w", dir, ErrNotEmpty)
	}
	return err
}

// CreateDir prepares to fill a directory and creates its missing parents. The caller must call [Dir.Commit] or
// [Dir.Abort].
func CreateDir(path string) (d *Dir, err error) {
	d = &Dir{path: path, parents: map[string]bool{}, continued: map[string]bool{}, realDirs: map[string]bool{}, spelled: map[string]map[string]bool{}}
	_, err = os.Stat(path)
	d.exists = err == nil
	d.undo, err = makeDirs(d.Parent())
	if err == nil && d.exists {
		d.lock, err = lockDir(path)
	}
	if err == nil {
		d.Nearby, err = tempdir.New([]string{d.Parent()}, nil)
	}
	if err == nil {
		d.temp, err = d.Nearby.Mkdir()
	}
	if err == nil {
		d.temp = filepath.Join(d.temp, capitalName, commitFiles) // Commit moves it; Nearby removes its parents
		err = os.MkdirAll(d.temp, 0o777)
	}
	if err != nil {
		return nil, errors.Join(err, d.Abort())
	}
	return d, nil
}

// Parent returns the directory that contains the temporary directories.
func (d *Dir) Parent() string {
	if d.exists {
		return d.path
	}
	return filepath.Dir(filepath.Clean(d.path))
}

// makeDirs creates a directory and its missing parents. undo removes the created directories that
// are empty.
func makeDirs(dir string) (undo func(), err error) {
	var created []string
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !os.IsNotExist(err) {
			break
		}
		created = append(created, d)
	}
	return func() {
		for _, d := range created {
			_ = os.Remove(d) // ignore the error: the directory may not be empty
		}
	}, os.MkdirAll(dir, 0o777)
}

// CreateFile creates a file for a key and returns its name without ext. The name is the one that [names.Scheme] gives
// to the key. It contains the key's SHA-256 if it would be too long, or if the file system ignores case and earlier keys
// have taken the names with and without escaped capitals.
func (d *Dir) CreateFile(key, ext string) (f *os.File, name string, err error) {
	name = d.nameOfKey(names.Scheme{}, key, ext)
	f, err = d.create(name + ext)
	if errors.Is(err, fs.ErrExist) {
		// The file system ignores case, and a key that differs only in case already has this name.
		name = d.nameOfKey(names.Scheme{FoldsCase: true}, key, ext)
		f, err = d.create(name + ext)
	}
	if errors.Is(err, fs.ErrExist) { // such as for the key "a" if the key "A" has taken the name
		name = names.Hashed(key)
		f, err = d.create(name + ext)
	}
	return f, name, err
}

func (d *Dir) nameOfKey(scheme names.Scheme, key, ext string) string {
	const maxName, maxSuffix = 255, len("~1000000000")
	name := scheme.Name(key)
	if d.Visible && (name[0] == '.' || name[0] == '_') {
		name = fmt.Sprintf("%%%02X%s", name[0], name[1:])
	}
	if len(name)+maxSuffix+len(ext) > maxName {
		return names.Hashed(key)
	}
	return name
}

// CreateAt creates a file at a path, which is relative to the directory and separated by slashes. If the file system
// ignores case and another path differs only in case, the error wraps [fs.ErrExist]. For the path's parents, that
// includes directories from earlier runs.
func (d *Dir) CreateAt(path string) (f *os.File, err error) {
	err = d.makeParents(path)
	if err == nil {
		f, err = d.create(path)
	}
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%s: another value has the same name on this file system, which may ignore case: %w", path, err)
	}
	return f, err
}

// makeParents creates the parents of path that it has not created before.
func (d *Dir) makeParents(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, c := range path {
		if c != '/' || d.parents[path[:i]] {
			continue
		}
		if err := d.checkSpelling(path[:i]); err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(d.temp, path[:i]), 0o777); err != nil {
			return err
		}
		d.parents[path[:i]] = true
	}
	return nil
}

// checkSpelling returns an error that wraps [fs.ErrExist] if the directory to fill has the name only with other capitals.
// mu must be held.
func (d *Dir) checkSpelling(name string) error {
	path := filepath.Join(d.path, name)
	if _, err := os.Lstat(path); err != nil || !d.exists {
		return nil //nolint:nilerr // if the name exists, Commit returns the error
	}
	parent := filepath.Dir(path)
	if d.spelled[parent] == nil {
		entries, err := os.ReadDir(parent)
		if err != nil {
			return err
		}
		d.spelled[parent] = map[string]bool{}
		for _, e := range entries {
			d.spelled[parent][e.Name()] = true
		}
	}
	if !d.spelled[parent][filepath.Base(path)] {
		return fmt.Errorf("%s: %w", path, fs.ErrExist)
	}
	return nil
}

func (d *Dir) create(name string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(d.temp, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err == nil {
		d.mu.Lock()
		d.names = append(d.names, name)
		d.mu.Unlock()
	}
	return f, err
}

// Files returns the number of files created.
func (d *Dir) Files() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.names)
}

// Commit moves the files, which must be closed, to the directory. Files of the same names are replaced, unless Others is
// [KeepOthers]. If the process is killed, the directory stays unchanged, or the next call of CheckDir completes the
// commit.
func (d *Dir) Commit() error {
	err := d.publish()
	if err != nil {
		return errors.Join(err, d.Abort())
	}
	d.unlock()
	return d.Nearby.Close()
}

func (d *Dir) publish() error {
	if d.exists {
		return d.commit()
	}
	err := d.sealFiles()
	if err == nil {
		err = os.Rename(d.temp, d.path)
	}
	if errors.Is(err, fs.ErrExist) { // another run has created it since CreateDir
		err = fmt.Errorf("%s: %w", d.path, ErrNotEmpty)
	}
	if err == nil {
		err = d.syncer()(filepath.Dir(filepath.Clean(d.path)))
	}
	return err
}

func (d *Dir) unlock() {
	if d.lock != nil {
		_ = d.lock.Close() // ignore the error: nothing was written to it
	}
}

// Abort removes the files and the directories that CreateDir created.
func (d *Dir) Abort() (err error) {
	if d.Nearby != nil {
		err = d.Nearby.Close()
	}
	d.undo()
	d.unlock()
	return err
}
