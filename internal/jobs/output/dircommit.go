package output

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// Others says what to do with other keys' files from earlier runs.
type Others uint8

// The values of Others.
const (
	KeepOthers   Others = iota // Commit replaces only files that were passed to [Dir.Continue]
	RefuseOthers               // Commit fails if it finds such files
	RemoveOthers
)

// ErrOtherKeys is wrapped by the error of [Dir.Commit] for files of other keys.
var ErrOtherKeys = errors.New("it is a file of another key, or another part, from an earlier run")

// ErrFinished is wrapped by the error of [CheckDir] after it has completed the commit of a killed run. A run that adds
// records must then stop: if it repeats the killed run, it would add all records twice.
var ErrFinished = errors.New("an earlier run was stopped while it moved its files; they are now all in place")

// A commit begins when a directory with this name appears in the directory to fill. It contains the directory
// commitFiles with the new files, and the file commitRemoved with a JSON array of the names to remove. No key has this
// name, because in names of keys, only digits follow a tilde.
const (
	commitName    = ".partd~commit"
	commitFiles   = "files"
	commitRemoved = "removed"
)

// lockDir locks a directory against other jobs that fill it, until the result is closed.
func lockDir(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if errors.Is(lock(f), errLocked) { // other errors mean that the file system has no locks
		return nil, errors.Join(fmt.Errorf("%s: another process is writing files to this directory: wait until it has finished", path), f.Close())
	}
	return f, nil
}

// commit moves the files into d.path, which must exist.
func (d *Dir) commit() error {
	written := map[string]bool{}
	folded := map[string][]string{} // names in written by their case-folded form
	for _, name := range d.names {
		written[name] = true
		folded[foldCase(name)] = append(folded[foldCase(name)], name)
		if err := d.checkTarget(name); err != nil {
			return err
		}
	}
	toRemove := []string{}
	if d.Others != KeepOthers {
		// If the file system changes capitals, the file a.csv may belong to the key A.
		keepsCase, err := d.KeepsCase()
		if err != nil {
			return err
		}
		err = fs.WalkDir(os.DirFS(d.path), ".", func(name string, e fs.DirEntry, err error) error {
			switch {
			case err != nil || name == ".":
				return err
			case e.IsDir() && !d.IsKeyFile(name, true):
				return fs.SkipDir
			case !e.Type().IsRegular() || !d.IsKeyFile(name, false):
				return nil
			case written[name] && (keepsCase || d.Others == RemoveOthers || !hasCase(strings.TrimSuffix(name, filepath.Ext(name)))):
				return nil
			case d.Others == RefuseOthers:
				return fmt.Errorf("%s: %w", filepath.Join(d.path, name), ErrOtherKeys)
			case slices.ContainsFunc(folded[foldCase(name)], func(other string) bool { return d.isSameFile(name, other) }):
				return nil // a new file replaces it, because the file system ignores case
			}
			toRemove = append(toRemove, name)
			return nil
		})
		if err != nil {
			return err
		}
	}
	removedJSON, err := json.Marshal(toRemove)
	if err != nil {
		return err
	}
	stagingDir := filepath.Dir(d.temp)
	listPath := filepath.Join(stagingDir, commitRemoved)
	if err := os.WriteFile(listPath, removedJSON, 0o666); err != nil {
		return err
	}
	syncWith := d.syncer()
	err = errors.Join(d.sealFiles(), d.seal(listPath, nil), syncWith(stagingDir))
	if err == nil {
		err = os.Rename(stagingDir, filepath.Join(d.path, commitName))
	}
	if err == nil {
		_, err = finishCommit(d.path, syncWith)
	}
	return err
}

// syncer returns the function that syncs directories.
func (d *Dir) syncer() func(dir string) error {
	if d.Durable {
		return syncDir
	}
	return func(string) error { return nil }
}

// syncDir and syncFile are replaced by tests.
var (
	syncFile = (*os.File).Sync
	syncDir  = func(dir string) error {
		err := vfs.OS{}.SyncDir(dir)
		if runtime.GOOS == "windows" || errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
			return nil // not all systems and file systems can sync directories
		}
		return err
	}
)

// sealFiles seals the new files, several at a time because file systems can sync them together. It then syncs their
// directories.
func (d *Dir) sealFiles() error {
	errs := make([]error, 16)
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() {
			for j := i; j < len(d.names) && errs[i] == nil; j += len(errs) {
				old, err := os.Lstat(filepath.Join(d.path, d.names[j]))
				if err != nil {
					old = nil // no file is replaced: checkTarget would have returned other errors
				}
				errs[i] = d.seal(filepath.Join(d.temp, d.names[j]), old)
			}
		})
	}
	group.Wait()
	err := errors.Join(errs...)
	for name := range d.parents {
		err = errors.Join(err, d.syncer()(filepath.Join(d.temp, name)))
	}
	return errors.Join(err, d.syncer()(d.temp))
}

// seal gives a new file the permissions of old, the file that it replaces, if any. It syncs the file if d.Durable is set.
func (d *Dir) seal(path string, old fs.FileInfo) error {
	if old == nil && !d.Durable {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if old != nil {
		err = f.Chmod(old.Mode().Perm())
		if err != nil && hasNoModes(err) {
			err = nil
		}
	}
	if err == nil && d.Durable {
		err = syncFile(f)
	}
	return errors.Join(err, f.Close())
}

// finishCommit completes a commit that has begun. hasBegun reports whether there was one. Its steps can be repeated, so a
// power loss at any time does no harm.
func finishCommit(dir string, syncDir func(string) error) (hasBegun bool, err error) {
	commit := filepath.Join(dir, commitName)
	if _, err := os.Lstat(commit); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	list, err := os.ReadFile(filepath.Join(commit, commitRemoved))
	if errors.Is(err, fs.ErrNotExist) {
		return true, os.RemoveAll(commit) // except for this removal, the commit is complete
	}
	var toRemove []string
	if err == nil {
		err = json.Unmarshal(list, &toRemove)
	}
	if err != nil {
		return true, fmt.Errorf("%s: the list of files to remove is damaged: %w: write [] to it, so that the next run moves the new files and removes none", filepath.Join(commit, commitRemoved), err)
	}
	changedDirs := map[string]bool{}
	err = syncDir(dir)
	if err == nil {
		err = moveFiles(filepath.Join(commit, commitFiles), dir, changedDirs)
	}
	for _, name := range toRemove {
		if err == nil && filepath.IsLocal(name) {
			err = removeIfExists(filepath.Join(dir, name))
		}
		for parent := filepath.Dir(name); err == nil && parent != "." && filepath.IsLocal(parent); parent = filepath.Dir(parent) {
			_ = os.Remove(filepath.Join(dir, parent)) // ignore the error: the directory may not be empty
			changedDirs[filepath.Join(dir, parent)] = true
		}
	}
	for name := range changedDirs {
		if err == nil {
			err = syncDir(name)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // it was removed
		}
	}
	if err == nil {
		err = os.Remove(filepath.Join(commit, commitRemoved))
	}
	if err != nil {
		return true, fmt.Errorf("%w (only some of the new files are in place: the next run with this directory moves the others and, with --append, adds no records)", err)
	}
	return true, os.RemoveAll(commit)
}

// moveFiles moves all files in a directory and its subdirectories to another one. It adds the changed directories
// to changedDirs.
func moveFiles(from, to string, changedDirs map[string]bool) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if e.IsDir() {
			changedDirs[target] = true
			return os.MkdirAll(target, 0o777)
		}
		return os.Rename(path, target)
	})
}

func removeIfExists(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
