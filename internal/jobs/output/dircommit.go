package output

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Others says what to do with files of other keys, which earlier runs have written.
type Others uint8

// The values of Others.
const (
	KeepOthers   Others = iota
	RefuseOthers        // Commit fails if there are such files
	RemoveOthers
)

// ErrOtherKeys is wrapped by the error of [Dir.Commit] for files of other keys.
var ErrOtherKeys = errors.New("it is a file of another key, or another part, from an earlier run")

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

// commit moves the files to the directory, which exists.
func (d *Dir) commit() error {
	written := map[string]bool{}
	for _, name := range d.names {
		written[name] = true
		if info, err := os.Lstat(filepath.Join(d.path, name)); err == nil && info.IsDir() {
			return fmt.Errorf("%s is a directory, so a file of this name cannot be written", filepath.Join(d.path, name))
		}
	}
	removed := []string{}
	if d.Others != KeepOthers {
		err := fs.WalkDir(os.DirFS(d.path), ".", func(name string, e fs.DirEntry, err error) error {
			switch {
			case err != nil || name == ".":
				return err
			case e.IsDir() && !d.IsKeyFile(name, true):
				return fs.SkipDir
			case !e.Type().IsRegular() || written[name] || !d.IsKeyFile(name, false):
				return nil
			case d.Others == RefuseOthers:
				return fmt.Errorf("%s: %w", filepath.Join(d.path, name), ErrOtherKeys)
			}
			removed = append(removed, name)
			return nil
		})
		if err != nil {
			return err
		}
	}
	list, err := json.Marshal(removed)
	if err != nil {
		return err
	}
	parent := filepath.Dir(d.temp)
	if err := os.WriteFile(filepath.Join(parent, commitRemoved), list, 0o666); err != nil {
		return err
	}
	if err := os.Rename(parent, filepath.Join(d.path, commitName)); err != nil {
		return err
	}
	return finishCommit(d.path)
}

// finishCommit completes a commit that has begun, if there is one.
func finishCommit(dir string) error {
	commit := filepath.Join(dir, commitName)
	list, err := os.ReadFile(filepath.Join(commit, commitRemoved))
	if errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(commit) // there is none, or only its removal remains
	}
	var removed []string
	if err == nil {
		err = json.Unmarshal(list, &removed)
	}
	if err == nil {
		err = moveFiles(filepath.Join(commit, commitFiles), dir)
	}
	for _, name := range removed {
		if err == nil && filepath.IsLocal(name) {
			err = removeIfExists(filepath.Join(dir, name))
		}
		for parent := filepath.Dir(name); err == nil && parent != "." && filepath.IsLocal(parent); parent = filepath.Dir(parent) {
			_ = os.Remove(filepath.Join(dir, parent)) // ignore the error: the directory may not be empty
		}
	}
	if err == nil {
		err = os.Remove(filepath.Join(commit, commitRemoved))
	}
	if err != nil {
		return fmt.Errorf("%w (only some of the new files are in place: the next run with this directory moves the others)", err)
	}
	return os.RemoveAll(commit)
}

// moveFiles moves all files in a directory and its subdirectories to another one.
func moveFiles(from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if e.IsDir() {
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

// Existing returns the path of a file that the directory already contains, or "" if there is none.
func (d *Dir) Existing(name string) string {
	path := filepath.Join(d.path, name)
	if _, err := os.Lstat(path); err != nil || !d.exists {
		return ""
	}
	return path
}

// CheckCase returns an error if the file system ignores case, so that an existing file may belong to another key.
func (d *Dir) CheckCase(name string) error {
	parent := filepath.Dir(d.temp)
	if _, err := os.Lstat(filepath.Join(filepath.Dir(parent), strings.ToUpper(filepath.Base(parent)))); err != nil {
		return nil
	}
	return fmt.Errorf("%s: the file system ignores case, so this file may belong to another key: files cannot be added to", filepath.Join(d.path, name))
}

// OpenLastPart opens the last part of a file for a key, from an earlier run, and makes the new file of this name, which
// must be closed, that part. It returns nil if there is none. part returns the name of a part.
func (d *Dir) OpenLastPart(part func(number int) string) (f *os.File, number int, err error) {
	for number = 0; ; number++ {
		if d.Existing(part(number+1)) == "" {
			break
		}
	}
	if number == 0 {
		return nil, 0, nil
	}
	if err := d.CheckCase(part(number)); err != nil {
		return nil, 0, err
	}
	if number > 1 {
		err := os.Rename(filepath.Join(d.temp, part(1)), filepath.Join(d.temp, part(number)))
		if err != nil {
			return nil, 0, err
		}
		d.mu.Lock()
		d.names[len(d.names)-1] = part(number)
		d.mu.Unlock()
	}
	f, err = os.Open(filepath.Join(d.path, part(number)))
	return f, number, err
}

// CopyAll copies an earlier file to a new one, and adds a newline if its end has none.
func CopyAll(to io.Writer, from *os.File) (size int64, err error) {
	size, err = io.Copy(to, from)
	last := []byte{'\n'}
	if err == nil && size > 0 {
		_, err = from.ReadAt(last, size-1)
	}
	if err == nil && last[0] != '\n' {
		size++
		_, err = to.Write([]byte{'\n'})
	}
	return size, err
}
