// Package output writes files atomically and encodes rows as CSV, TSV, JSON lines or text. It
// writes a temporary file in the same directory and renames it at the end.
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

	"github.com/go-partd/partd/internal/disk/vfs"
)

// ErrExists means that the file already exists.
var ErrExists = errors.New("it already exists")

// File is a file being written.
type File struct {
	path   string // final name
	temp   string // current name; "" if the file is written in place
	force  bool
	f      *os.File
	closed bool
}

// Create begins to write a file. If the file exists and replace is false, the error wraps
// [ErrExists]. Devices, pipes and other special files are written in place. Create also
// removes temporary files for path that killed processes have left behind.
func Create(ctx context.Context, path string, replace bool) (*File, error) {
	path, err := resolveLinks(path)
	if err != nil {
		return nil, err
	}
	mode := fs.FileMode(0o666)
	keepMode := false
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
		mode, keepMode = info.Mode().Perm(), true
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
	if keepMode {
		if err := f.Chmod(mode); err != nil && !hasNoModes(err) {
			return nil, errors.Join(err, o.Abort())
		}
	}
	return o, nil
}

// hasNoModes reports whether an error of Chmod means that the file system does not store modes, as FAT and some network
// file systems do not. The error never means that another user owns the file: this process has just created it.
func hasNoModes(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported)
}

// resolveLinks follows symbolic links. The file at the end need not exist.
func resolveLinks(path string) (string, error) {
	const maxLinks = 40 // as many as Linux follows
	for range maxLinks {
		info, err := os.Lstat(path)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			return path, nil // the caller's Stat will return the error
		}
		link, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(link) {
			// Join would shorten "link/..", which is wrong if link is a symbolic link.
			link = filepath.Dir(path) + string(filepath.Separator) + link
		}
		path = link
	}
	return "", &fs.PathError{Op: "create", Path: path, Err: syscall.ELOOP}
}

// createTemp creates a temporary file and locks it so that other processes do not remove it.
func createTemp(dir, base string, mode fs.FileMode) (name string, f *os.File, err error) {
	const maxTries = 100
	for range maxTries {
		name = filepath.Join(dir, tempPrefix(base)+rand.Text()+tempSuffix)
		f, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return "", nil, &fs.PathError{Op: "create a file in", Path: cmp.Or(dir, "."), Err: errors.Unwrap(err)}
		}
		err = lock(f)
		if err == nil && isNamed(f, name) {
			return name, f, nil
		}
		// Another process locked the file first and is removing it.
		if err != nil && !errors.Is(err, errLocked) {
			return "", nil, errors.Join(fmt.Errorf("cannot lock %s: %w", name, err), os.Remove(name), f.Close())
		}
		_ = f.Close() // nothing was written to it
	}
	return "", nil, fmt.Errorf("%s: cannot create a temporary file, because other processes keep removing it", dir)
}

func isNamed(f *os.File, name string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(name)
	return err == nil && os.SameFile(open, named)
}

const tempSuffix = ".tmp"

// tempPrefix returns the beginning of the names of temporary files for base. It shortens base,
// because file names have at most 255 bytes.
func tempPrefix(base string) string {
	const limit = 200
	return "." + strings.ToValidUTF8(base[:min(len(base), limit)], "") + ".partd-"
}

// sweep removes temporary files for base that no process has locked. It ignores errors.
func sweep(dir, base string) {
	names, err := filepath.Glob(filepath.Join(escapePattern(dir), escapePattern(tempPrefix(base))+"*"+tempSuffix))
	if err != nil {
		return
	}
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_RDONLY|vfs.NoFollow, 0)
		if err != nil {
			continue
		}
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && lock(f) == nil {
			_ = os.Remove(name) // the next command tries again
		}
		_ = f.Close() // nothing was written to it
	}
}

func escapePattern(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}

func (o *File) Write(p []byte) (int, error) { return o.f.Write(p) }

// Commit closes the file and gives it its final name. If Commit fails, an existing file of that
// name stays unchanged.
func (o *File) Commit() error {
	if o.closed {
		return fs.ErrClosed
	}
	if o.temp == "" {
		o.closed = true
		return o.f.Close()
	}
	o.closed = true
	// Close before renaming, because Close can report a failed write. It would also release the
	// lock, so keep the lock until the file has its final name.
	unlock, err := keepLock(o.f)
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", o.temp, err), removeIfExists(o.temp), o.f.Close())
	}
	err = o.f.Close()
	if err == nil {
		err = o.publish()
	}
	if err != nil {
		err = errors.Join(err, removeIfExists(o.temp))
	}
	unlock()
	return err
}

// publish gives the file its final name. Without force, it fails if a file of that name exists.
func (o *File) publish() error {
	if o.force {
		return os.Rename(o.temp, o.path)
	}
	err := os.Link(o.temp, o.path)
	switch {
	case err == nil:
		return removeIfExists(o.temp)
	case errors.Is(err, fs.ErrExist):
		return &fs.PathError{Op: "create", Path: o.path, Err: ErrExists}
	}
	// The file system may not support hard links.
	if _, serr := os.Lstat(o.path); serr == nil {
		return &fs.PathError{Op: "create", Path: o.path, Err: ErrExists}
	}
	return os.Rename(o.temp, o.path)
}

// Abort removes the file, unless it was committed.
func (o *File) Abort() error {
	if o.closed {
		return nil
	}
	o.closed = true
	return errors.Join(removeIfExists(o.temp), o.f.Close())
}
