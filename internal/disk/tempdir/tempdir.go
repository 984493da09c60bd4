// Package tempdir keeps temporary files in directories that the process owns. If the process
// dies, its next run, or another process, removes them.
//
// A directory partd-tmp-<16 hex digits> belongs to the process that holds the lock (flock) on
// the file partd-tmp-<the same digits>.lock next to it. Close removes both. A dead process holds
// no lock, so the next [New] in the same parent directory removes its files. New never removes
// a directory without such a lock file, or a lock file with other content.
//
// On a network file system, flock may not exclude all processes. There, a lock file also contains the
// note of its process (see [vfs.ParseNote]), and New only removes the directories of processes that have
// ended on this machine.
package tempdir

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/go-partd/partd/internal/disk/vfs"
)

const (
	prefix     = "partd-tmp-"
	lockSuffix = ".lock"
	digits     = 16
	mark       = "The directory of this name, without .lock, is a temporary one of partd.\n"
)

// Set is a set of temporary directories, one for each parent directory. It is safe for
// concurrent use.
type Set struct {
	fs     vfs.FS
	mu     sync.Mutex
	dirs   []*dir
	next   int // index in dirs of the directory for the next file
	files  int // number of files created, for their names
	closed bool
}

type dir struct {
	parent string
	path   string // "" if it is not created yet
	lock   vfs.Lock
}

// ErrClosed is returned by the methods of a closed Set.
var ErrClosed = errors.New("the temporary directories are already removed")

// New returns a Set of temporary directories in the given parent directories; the default is
// [os.TempDir]. It removes the files of dead processes from the parents. Directories are created
// only when they are needed. fsys is for injecting faults; nil means the real file system.
func New(parents []string, fsys vfs.FS) (*Set, error) {
	s := &Set{fs: cmp.Or[vfs.FS](fsys, vfs.OS{})}
	if len(parents) == 0 {
		parents = []string{os.TempDir()}
	}
	for _, parent := range parents {
		abs, err := filepath.Abs(parent) // absolute, because the process may change its working directory
		if err != nil {
			return nil, fmt.Errorf("temporary directory %s: %w", parent, err)
		}
		info, err := s.fs.Info(abs)
		if err == nil && !info.Mode.IsDir() {
			err = errors.New("it is not a directory")
		}
		if err != nil {
			return nil, fmt.Errorf("temporary directory %s: %w (create it, or set TMPDIR to another one)", parent, err)
		}
		s.dirs = append(s.dirs, &dir{parent: abs})
		_ = sweep(s.fs, abs) // ignore the error: it only means that files of dead processes remain
	}
	return s, nil
}

// NewDir creates a directory in parent, or in [os.TempDir] if parent is empty. It returns the path
// and a Set whose Close removes the directory.
func NewDir(parent string) (path string, s *Set, err error) {
	s, err = New([]string{cmp.Or(parent, os.TempDir())}, nil)
	if err != nil {
		return "", nil, err
	}
	path, err = s.Mkdir()
	if err != nil {
		return "", nil, errors.Join(err, s.Close())
	}
	return path, s, nil
}

// Create creates a file in the Set's next directory. The file has no name, so the system removes it
// when it is closed or the process dies.
func (s *Set) Create() (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, err := s.newName("run")
	if err != nil {
		return nil, err
	}
	return createUnnamed(s.fs, name)
}

// Create creates a file without a name in [os.TempDir], like [Set.Create].
func Create() (vfs.File, error) { return CreateIn(os.TempDir()) }

// CreateIn creates a file without a name in a directory, like [Set.Create].
func CreateIn(dir string) (vfs.File, error) {
	return createUnnamed(vfs.OS{}, filepath.Join(dir, prefix+rand.Text()))
}

func createUnnamed(fsys vfs.FS, name string) (vfs.File, error) {
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := fsys.Remove(name); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Mkdir creates a directory in the Set's next directory and returns the new path. Close removes the
// new directory and its contents.
func (s *Set) Mkdir() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, err := s.newName("dir")
	if err != nil {
		return "", err
	}
	return name, s.fs.Mkdir(name, 0o700)
}

// newName returns an unused name for a file or directory. mu must be held.
func (s *Set) newName(kind string) (string, error) {
	if s.closed {
		return "", ErrClosed
	}
	d := s.dirs[s.next]
	s.next = (s.next + 1) % len(s.dirs)
	if err := s.create(d); err != nil {
		return "", fmt.Errorf("cannot create a temporary directory in %s: %w", d.parent, err)
	}
	s.files++
	return filepath.Join(d.path, kind+"-"+strconv.Itoa(s.files)), nil
}

func (s *Set) create(d *dir) error {
	for d.path == "" {
		var random [digits / 2]byte
		_, _ = rand.Read(random[:]) // never returns an error
		path := filepath.Join(d.parent, prefix+hex.EncodeToString(random[:]))
		lock, err := s.lockNew(path + lockSuffix)
		if err != nil {
			return err
		}
		if lock == nil {
			continue // another process removed the lock file before this process locked it
		}
		if err := s.fs.Mkdir(path, 0o700); err != nil {
			return errors.Join(err, s.fs.Remove(path+lockSuffix), lock.Unlock())
		}
		d.path, d.lock = path, lock
	}
	return nil
}

// lockNew creates a lock file and locks it. It returns nil if another process removed the file
// before it was locked.
func (s *Set) lockNew(name string) (vfs.Lock, error) {
	lock, err := vfs.TryLock(s.fs, name, true)
	if err != nil {
		if rerr := s.fs.Remove(name); !errors.Is(rerr, fs.ErrNotExist) { // the file may not exist
			err = errors.Join(err, rerr)
		}
	}
	if lock == nil || err != nil {
		return nil, err
	}
	f, err := s.fs.OpenFile(name, os.O_WRONLY, 0o600)
	if err == nil {
		content := mark
		if vfs.NetworkOf(s.fs, filepath.Dir(name)) != "" {
			content += vfs.HolderNote()
		}
		_, err = f.Write([]byte(content))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return nil, errors.Join(err, s.fs.Remove(name), lock.Unlock())
	}
	return lock, nil
}

// Close removes the directories and their contents. If it cannot remove a directory, the next New
// will try again.
func (s *Set) Close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for _, d := range s.dirs {
		if d.path == "" {
			continue
		}
		err := removeTree(d.path)
		if err == nil {
			err = s.fs.Remove(d.path + lockSuffix)
		}
		errs = append(errs, err, d.lock.Unlock())
		d.path = ""
	}
	return errors.Join(errs...)
}

// Sweep removes the files of dead processes in the parent directories, as New does.
func (s *Set) Sweep() error {
	var errs []error
	for _, d := range s.dirs {
		errs = append(errs, sweep(s.fs, d.parent))
	}
	return errors.Join(errs...)
}

func sweep(fsys vfs.FS, parent string) error {
	entries, err := os.ReadDir(parent)
	errs := []error{err}
	for _, e := range entries {
		middle, hasPrefix := strings.CutPrefix(e.Name(), prefix)
		middle, isLock := strings.CutSuffix(middle, lockSuffix)
		// Accept only names of the form that create uses.
		named := hasPrefix && isLock && len(middle) == digits && strings.Trim(middle, "0123456789abcdef") == ""
		if named && e.Type().IsRegular() {
			errs = append(errs, sweepOne(fsys, filepath.Join(parent, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// sweepOne removes a lock file and its directory if no process holds the lock.
func sweepOne(fsys vfs.FS, lockName string) error {
	isOwn, err := isOurs(fsys, lockName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its owner has removed it
	}
	if err != nil || !isOwn {
		return err
	}
	lock, err := vfs.TryLock(fsys, lockName, true)
	if lock == nil || err != nil {
		return err
	}
	err = removeTree(strings.TrimSuffix(lockName, lockSuffix))
	if err == nil {
		err = fsys.Remove(lockName)
	}
	return errors.Join(err, lock.Unlock())
}

// isOurs reports whether a lock file contains mark or, because a process can die while it writes the
// file, only the beginning of mark. On a network file system, isOurs reports whether the file
// contains all of mark and the note of a process that has ended.
func isOurs(fsys vfs.FS, name string) (bool, error) {
	content, err := vfs.ReadNote(fsys, name)
	if err != nil || vfs.NetworkOf(fsys, filepath.Dir(name)) == "" {
		return err == nil && strings.HasPrefix(mark, content), err
	}
	note, isMarked := strings.CutPrefix(content, mark)
	_, isHere, isRunning := vfs.ParseNote(note)
	return isMarked && isHere && !isRunning, nil
}

// removeTree removes a directory and its contents. It does not follow symbolic links. A missing
// directory is not an error.
func removeTree(dir string) error {
	if info, err := os.Lstat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("not removing %s: it has been replaced with a symbolic link", dir)
	}
	return os.RemoveAll(dir)
}
