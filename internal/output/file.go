// Package output writes files that are there whole or not at all: a temporary
// file in the same directory takes the place of the name when all is written.
package output

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/go-partd/partd/internal/vfs"
)

// ErrExists is wrapped by the error for a file that is already there.
var ErrExists = errors.New("it already exists")

// File is a file being written.
type File struct {
	path   string // where it will be
	temp   string // where it is now; "" if it is written in place
	force  bool
	f      *os.File
	closed bool
}

// Create begins a file. One that exists is an error that wraps [ErrExists],
// unless it is to be replaced. What is no regular file, as a device or a pipe,
// is written in place. Temporary files that killed processes left behind for the
// same name are removed.
func Create(ctx context.Context, path string, replace bool) (*File, error) {
	path, err := target(path)
	if err != nil {
		return nil, err
	}
	mode := fs.FileMode(0o666)
	exact := false
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("%s is a directory, not a file", path)
	case err == nil && !info.Mode().IsRegular():
		f, err := vfs.OpenFile(ctx, path, os.O_WRONLY)
		if err != nil {
			return nil, err
		}
		return &File{path: path, f: f}, nil
	case err == nil && !replace:
		return nil, &fs.PathError{Op: "create", Path: path, Err: ErrExists}
	case err == nil:
		mode, exact = info.Mode().Perm(), true
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	dir, base := filepath.Split(path)
	sweep(dir, base)
	temp, f, err := createTemp(dir, base, mode)
	if err != nil {
		return nil, err
	}
	o := &File{path: path, temp: temp, force: replace, f: f}
	if exact {
		if err := f.Chmod(mode); err != nil {
			return nil, errors.Join(err, o.Abort())
		}
	}
	return o, nil
}

// target follows symbolic links, also to where nothing is yet.
func target(path string) (string, error) {
	const maxLinks = 40 // as many as Linux follows
	for range maxLinks {
		info, err := os.Lstat(path)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			return path, nil // Stat says what is wrong
		}
		link, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(link) {
			// Not Join: what is before a .. may be a link.
			link = filepath.Dir(path) + string(filepath.Separator) + link
		}
		path = link
	}
	return "", &fs.PathError{Op: "create", Path: path, Err: syscall.ELOOP}
}

// createTemp makes a temporary file and locks it, as long as it is open: so
// nobody takes it for one left behind.
func createTemp(dir, base string, mode fs.FileMode) (name string, f *os.File, err error) {
	const tries = 100
	for range tries {
		name = filepath.Join(dir, prefix(base)+rand.Text()+suffix)
		if f, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode); err != nil {
			return "", nil, &fs.PathError{Op: "create a file in", Path: cmp.Or(dir, "."), Err: errors.Unwrap(err)}
		}
		if err = lock(f); err == nil && hasName(f, name) {
			return name, f, nil
		}
		// Another process found it before it was locked, and sweeps it.
		if err != nil && !errors.Is(err, errLocked) {
			return "", nil, errors.Join(fmt.Errorf("%s: locking it: %w", name, err), os.Remove(name), f.Close())
		}
		_ = f.Close()
	}
	return "", nil, fmt.Errorf("%s: others remove temporary files there as fast as they are created", dir)
}

func hasName(f *os.File, name string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(name)
	return err == nil && os.SameFile(open, named)
}

const suffix = ".tmp"

// prefix is what the names of the temporary files for a name begin with. File
// names have 255 bytes at most.
func prefix(base string) string {
	const limit = 200
	return "." + strings.ToValidUTF8(base[:min(len(base), limit)], "") + ".partd-"
}

// sweep removes temporary files for a name that no process holds. One that
// cannot be looked at or removed is left to the next.
func sweep(dir, base string) {
	names, err := filepath.Glob(filepath.Join(escape(dir), escape(prefix(base))+"*"+suffix))
	if err != nil {
		return
	}
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_RDONLY|vfs.NoFollow, 0)
		if err != nil {
			continue
		}
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && lock(f) == nil {
			_ = os.Remove(name)
		}
		_ = f.Close()
	}
}

// escape makes a pattern that matches a name exactly.
func escape(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}

func (o *File) Write(p []byte) (int, error) { return o.f.Write(p) }

// Commit ends the file and gives it its name. If that fails, there is no file,
// or the one that was there before.
func (o *File) Commit() error {
	if o.closed {
		return fs.ErrClosed
	}
	if o.temp == "" {
		o.closed = true
		return o.f.Close()
	}
	o.closed = true
	// Closing may tell of a failed write, and ends the lock: a copy of the
	// descriptor keeps that until the file has its name.
	unlock, err := keepLock(o.f)
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", o.temp, err), o.remove(), o.f.Close())
	}
	if err = o.f.Close(); err == nil {
		err = o.name()
	}
	if err != nil {
		err = errors.Join(err, o.remove())
	}
	unlock()
	return err
}

// name gives the file its name. Without leave to replace, a file that was made
// there meanwhile is an error, too.
func (o *File) name() error {
	if o.force {
		return os.Rename(o.temp, o.path)
	}
	err := os.Link(o.temp, o.path)
	switch {
	case err == nil:
		return o.remove()
	case errors.Is(err, fs.ErrExist):
		return &fs.PathError{Op: "create", Path: o.path, Err: ErrExists}
	}
	// A file system without links.
	if _, serr := os.Lstat(o.path); serr == nil {
		return &fs.PathError{Op: "create", Path: o.path, Err: ErrExists}
	}
	return os.Rename(o.temp, o.path)
}

// Abort gives the file up, unless it was committed.
func (o *File) Abort() error {
	if o.closed {
		return nil
	}
	o.closed = true
	return errors.Join(o.remove(), o.f.Close())
}

func (o *File) remove() error {
	if err := os.Remove(o.temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
