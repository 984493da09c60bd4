package output

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// CheckInputs returns an error if an input file or a directory of inputs is in the output directory dir, where the job
// could replace it.
func CheckInputs(dir string, files []string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return nil //nolint:nilerr // the directory does not exist, so no file is in it
	}
	for _, file := range files {
		path, err := filepath.EvalSymlinks(file)
		if err == nil {
			path, err = filepath.Abs(path)
		}
		if err != nil {
			continue // not a path, such as "-" for the standard input; opening the file reports other errors
		}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			path = filepath.Join(path, "file")
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || !filepath.IsLocal(rel) {
			continue
		}
		if parent := filepath.Dir(rel); parent == "." || strings.Contains(parent, "=") { // key=value, as --hive names directories
			return fmt.Errorf("the input %s is in the output directory, so the job could replace it: use another output directory", file)
		}
	}
	return nil
}

func hasCase(name string) bool { return strings.ToUpper(name) != strings.ToLower(name) }

func foldCase(name string) string { return strings.ToLower(strings.ToUpper(name)) }

// isSameFile reports whether two names in the directory refer to the same file.
func (d *Dir) isSameFile(a, b string) bool {
	infoA, errA := os.Lstat(filepath.Join(d.path, a))
	infoB, errB := os.Lstat(filepath.Join(d.path, b))
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// checkTarget returns an error if a new file cannot be moved to its name, or would replace a file that this run
// does not continue.
func (d *Dir) checkTarget(name string) error {
	for i, c := range name {
		if c != '/' || d.realDirs[name[:i]] {
			continue
		}
		parent := filepath.Join(d.path, name[:i])
		info, err := os.Lstat(parent)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !info.IsDir():
			return fmt.Errorf("%s is not a directory, so files cannot be written below it: remove or rename it", parent)
		}
		d.realDirs[name[:i]] = true
	}
	exists, err := d.checkRegular(name)
	if err == nil && exists && d.Others == KeepOthers && !d.continued[name] {
		err = fmt.Errorf("%s already exists and would be replaced instead of continued", filepath.Join(d.path, name))
	}
	return err
}

// checkRegular reports whether a file exists in the directory and returns an error if it is not a regular file.
func (d *Dir) checkRegular(name string) (exists bool, err error) {
	path := filepath.Join(d.path, name)
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case info.IsDir():
		return true, fmt.Errorf("%s is a directory, so a file of this name cannot be written", path)
	case !info.Mode().IsRegular():
		return true, fmt.Errorf("%s is not a regular file, so it cannot be replaced: remove or rename it", path)
	}
	return true, nil
}

// Existing returns the path of a file that the directory already contains, or "" if there is none.
func (d *Dir) Existing(name string) string {
	path := filepath.Join(d.path, name)
	if _, err := os.Lstat(path); err != nil || !d.exists {
		return ""
	}
	return path
}

// Continue allows a new file to replace an existing one, whose content the new file must include. It returns an error if the existing
// file is not a regular one, or may belong to another key because the file system ignores case.
func (d *Dir) Continue(name string) error {
	if _, err := d.checkRegular(name); err != nil {
		return err
	}
	parent := filepath.Dir(d.temp)
	if _, err := os.Lstat(filepath.Join(filepath.Dir(parent), strings.ToUpper(filepath.Base(parent)))); err == nil {
		return fmt.Errorf("%s: the file system ignores case, so this file may belong to another key and cannot be added to", filepath.Join(d.path, name))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.continued[name] = true
	return nil
}

// OpenLastPart opens the last part of a key's file from an earlier run and renames the last created file to that part's
// name. It returns nil if there is no part. part returns the name of a part.
func (d *Dir) OpenLastPart(part func(number int) string) (f *os.File, number int, err error) {
	for d.Existing(part(number+1)) != "" {
		number++
	}
	if number == 0 {
		return nil, 0, nil
	}
	if err := d.Continue(part(number)); err != nil {
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

// CopyAll copies an earlier file to a new one and adds a newline if the last line has none.
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
