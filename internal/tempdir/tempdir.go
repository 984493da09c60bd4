// Package tempdir keeps temporary files in directories that their process owns
// and that outlive it no longer than until the next run.
//
// A directory partd-tmp-<16 hex digits> belongs to the holder of the lock (flock)
// on the file partd-tmp-<the same digits>.lock beside it. Close removes both. A
// process that dies loses its lock, and the next [New] in the same place removes
// what it left behind. Nothing else is ever removed: not a directory without
// such a file, nor a file of that name that holds something else.
package tempdir

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/go-partd/partd/internal/vfs"
)

const (
	prefix     = "partd-tmp-"
	lockSuffix = ".lock"
	digits     = 16
	mark       = "The directory of this name, without .lock, is a temporary one of partd.\n"
)

// Options of a [Set]. The zero value, and nil, are the defaults.
type Options struct {
	FS vfs.FS // of the real disk, which a test lets fail; nil: as it is
}

// Set is a set of temporary directories, one in each of the places that it was
// made for. It is safe for concurrent use.
type Set struct {
	fs    vfs.FS
	mu    sync.Mutex
	dirs  []*dir
	next  int // of dirs, for what is made next
	files int // made so far, for their names
	over  bool
}

// dir is the directory in one place. It is made when it is first needed.
type dir struct {
	parent string
	path   string // "" while there is none
	lock   vfs.Lock
}

// ErrClosed is the error of what is asked of a closed Set.
var ErrClosed = errors.New("the temporary directories are already removed")

// New returns temporary directories in the given places, none given means
// [os.TempDir]. It removes what dead processes left there. Directories are made
// only once they are needed.
func New(places []string, o *Options) (*Set, error) {
	s := &Set{fs: vfs.OS{}}
	if o != nil && o.FS != nil {
		s.fs = o.FS
	}
	if len(places) == 0 {
		places = []string{os.TempDir()}
	}
	for _, place := range places {
		// A change of directory must not move it.
		abs, err := filepath.Abs(place)
		if err != nil {
			return nil, fmt.Errorf("temporary directory %s: %w", place, err)
		}
		info, err := s.fs.Info(abs)
		if err == nil && !info.Mode.IsDir() {
			err = errors.New("it is not a directory")
		}
		if err != nil {
			return nil, fmt.Errorf("temporary directory %s: %w", place, err)
		}
		s.dirs = append(s.dirs, &dir{parent: abs})
		// What others left is their failure, and no reason to fail.
		_ = sweep(s.fs, abs)
	}
	return s, nil
}

// Own returns the path of one new directory in a place, "" meaning [os.TempDir],
// and what removes it.
func Own(place string) (path string, s *Set, err error) {
	var places []string
	if place != "" {
		places = append(places, place)
	}
	if s, err = New(places, nil); err != nil {
		return "", nil, err
	}
	if path, err = s.Mkdir(); err != nil {
		return "", nil, errors.Join(err, s.Close())
	}
	return path, s, nil
}

// Create returns a new file, in each of the places in turn. It has no name any
// more, so that it is gone once it is closed, whatever becomes of the process.
func (s *Set) Create() (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, err := s.newName("run")
	if err != nil {
		return nil, err
	}
	return unnamed(s.fs, name)
}

// Create returns a new file in [os.TempDir], which has no name any more, as those of a
// Set have none.
func Create() (vfs.File, error) {
	return unnamed(vfs.OS{}, filepath.Join(os.TempDir(), prefix+rand.Text()))
}

func unnamed(fsys vfs.FS, name string) (vfs.File, error) {
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := fsys.Remove(name); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Mkdir returns the path of a new directory, in each of the places in turn.
// Close removes it with all that it holds.
func (s *Set) Mkdir() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, err := s.newName("dir")
	if err != nil {
		return "", err
	}
	return name, s.fs.Mkdir(name, 0o700)
}

// newName returns a name for a file or directory that does not exist yet. mu is
// held.
func (s *Set) newName(kind string) (string, error) {
	if s.over {
		return "", ErrClosed
	}
	d := s.dirs[s.next]
	s.next = (s.next + 1) % len(s.dirs)
	if err := s.make(d); err != nil {
		return "", fmt.Errorf("a temporary directory in %s: %w", d.parent, err)
	}
	s.files++
	return filepath.Join(d.path, kind+"-"+strconv.Itoa(s.files)), nil
}

// make makes the directory in a place if there is none yet.
func (s *Set) make(d *dir) error {
	for d.path == "" {
		var random [digits / 2]byte
		_, _ = rand.Read(random[:]) // it never fails
		path := filepath.Join(d.parent, prefix+hex.EncodeToString(random[:]))
		lock, err := s.own(path + lockSuffix)
		if err != nil {
			return err
		}
		if lock == nil {
			continue // another process took it for a dead one's
		}
		if err := s.fs.Mkdir(path, 0o700); err != nil {
			return errors.Join(err, s.fs.Remove(path+lockSuffix), lock.Unlock())
		}
		d.path, d.lock = path, lock
	}
	return nil
}

// own makes a lock file and locks it. It returns no lock if the file was swept
// in between.
func (s *Set) own(name string) (vfs.Lock, error) {
	lock, err := vfs.TryLock(s.fs, name, true)
	if err != nil {
		if rerr := s.fs.Remove(name); !errors.Is(rerr, fs.ErrNotExist) { // it may not have been made
			err = errors.Join(err, rerr)
		}
	}
	if lock == nil || err != nil {
		return nil, err
	}
	f, err := s.fs.OpenFile(name, os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.Write([]byte(mark))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return nil, errors.Join(err, s.fs.Remove(name), lock.Unlock())
	}
	return lock, nil
}

// Close removes the directories and all that they hold. What could not be
// removed, the next New removes.
func (s *Set) Close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
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

// Sweep removes what dead processes left in the places, as New does.
func (s *Set) Sweep() error {
	var errs []error
	for _, d := range s.dirs {
		errs = append(errs, sweep(s.fs, d.parent))
	}
	return errors.Join(errs...)
}

// sweep removes what dead processes left in a place.
func sweep(fsys vfs.FS, place string) error {
	entries, err := os.ReadDir(place)
	errs := []error{err}
	for _, e := range entries {
		middle, ours := strings.CutPrefix(e.Name(), prefix)
		middle, isLock := strings.CutSuffix(middle, lockSuffix)
		named := ours && isLock && len(middle) == digits && strings.Trim(middle, "0123456789abcdef") == "" // as own does
		if named && e.Type().IsRegular() {
			errs = append(errs, sweepOne(fsys, filepath.Join(place, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// sweepOne removes the directory of a lock file, and the lock file, if nobody
// holds the lock.
func sweepOne(fsys vfs.FS, lockName string) error {
	ours, err := isOurs(fsys, lockName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its owner has just closed it
	}
	if err != nil || !ours {
		return err
	}
	lock, err := vfs.TryLock(fsys, lockName, true)
	if lock == nil || err != nil {
		return err
	}
	if err = removeTree(strings.TrimSuffix(lockName, lockSuffix)); err == nil {
		err = fsys.Remove(lockName)
	}
	return errors.Join(err, lock.Unlock())
}

// isOurs reports whether a lock file holds what own writes, or the beginning of
// that: its writer may have died there.
func isOurs(fsys vfs.FS, name string) (bool, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return false, err
	}
	var b [len(mark) + 1]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		return false, errors.Join(err, f.Close())
	}
	return strings.HasPrefix(mark, string(b[:n])), f.Close()
}

// removeTree removes a directory with all that it holds, and follows no symbolic link.
// One that does not exist is no error.
func removeTree(dir string) error {
	if info, err := os.Lstat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is now a symbolic link, and is left alone", dir)
	}
	return os.RemoveAll(dir)
}
