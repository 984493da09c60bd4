package icecat

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/uuid"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// warehouse contains the files of all tables, in a directory or a bucket.
type warehouse struct {
	dir         string // directory of the tables' files in fs
	root        string // Options.Root
	originalDir string // directory in which the warehouse was created; recorded locations begin with it
	fs          vfs.FS
	readOnly    bool
}

// local returns the path of the file at a location. Locations begin with the warehouse's original directory, even after
// the warehouse has been moved.
func (w *warehouse) local(location string) (string, error) {
	if w.root != "" {
		suffix, ok := strings.CutPrefix(location, w.root+"/")
		if !ok || path.Clean("/"+suffix) != "/"+suffix {
			return "", fmt.Errorf("location %q is outside the warehouse %s: %w", location, w.root, fs.ErrPermission)
		}
		return "/" + suffix, nil
	}
	p, isURL := strings.CutPrefix(location, "file:")
	p = strings.TrimPrefix(p, "//") // Java writes file:/ with one slash
	escaped := strings.TrimPrefix(w.location(""), "file://")
	if suffix, ok := strings.CutPrefix(p, escaped); ok && isURL {
		return filepath.Join(w.dir, suffix), nil // Keep escapes in names such as k=a%2Fb/x.parquet, because engines do not unescape them.
	}
	if isURL {
		var err error
		p, err = url.PathUnescape(p)
		if err != nil {
			return "", fmt.Errorf("location %q: %w", location, err)
		}
	}
	if !filepath.IsAbs(p) {
		return "", fmt.Errorf("location %q is not a local file: %w", location, fs.ErrPermission)
	}
	if suffix, ok := strings.CutPrefix(p, w.originalDir+"/"); ok {
		return filepath.Join(w.dir, suffix), nil
	}
	return filepath.Clean(p), nil
}

// Local returns the path of the file at a location, or of a local copy if the file is in a bucket. The copy exists
// until release is called. release is never nil.
func (w *warehouse) Local(location string) (path string, release func(), err error) {
	path, err = w.local(location)
	if err != nil {
		return "", func() {}, err
	}
	if r, ok := w.fs.(Remote); ok {
		return r.Pin(path)
	}
	return path, func() {}, nil
}

// DisplayPath returns a file's path, or its location in a bucket, for messages.
func (w *warehouse) DisplayPath(location string) string {
	if path, err := w.local(location); err == nil && w.root == "" {
		return path
	}
	return location
}

// Forget drops the local copy of a file in a bucket, so that the next read fetches the file again.
func (w *warehouse) Forget(location string) {
	if r, ok := w.fs.(Remote); ok {
		if path, err := w.local(location); err == nil {
			r.Forget(path)
		}
	}
}

// ownPath is like local, but for writing or removing a file. It rejects files outside the warehouse, because other
// engines can put any location into metadata.
func (w *warehouse) ownPath(location string) (string, error) {
	if w.readOnly {
		return "", ErrReadOnly
	}
	p, err := w.local(location)
	if err == nil && !strings.HasPrefix(p, w.dir+"/data/") {
		err = fmt.Errorf("location %q is outside the warehouse: %w", location, fs.ErrPermission)
	}
	return p, err
}

// NewLocation returns a location for a new table. The location does not contain the table's name, so renaming the table
// moves no files.
func (w *warehouse) NewLocation() string {
	return w.location("data/" + uuid.NewString())
}

func (w *warehouse) location(name string) string {
	if w.root != "" {
		return w.root + "/" + name
	}
	u := url.URL{Scheme: "file", Path: w.originalDir + "/" + name}
	return u.String()
}

// damaged converts err to a Damaged error if the file itself is the cause. Other errors, such as a bucket's network
// errors, may be temporary.
func (w *warehouse) damaged(location string, err error) error {
	if errors.As(err, new(*Damaged)) {
		return err
	}
	isFileFault := errors.As(err, new(*partd.CorruptError)) // the error for a damaged file in a bucket
	for _, cause := range []error{fs.ErrNotExist, fs.ErrPermission, syscall.EIO, syscall.EISDIR, ErrContent} {
		isFileFault = isFileFault || errors.Is(err, cause)
	}
	if isFileFault {
		return &Damaged{File: w.DisplayPath(location), Err: err}
	}
	return err
}

// DataLocation returns the common prefix of all table locations.
func (w *warehouse) DataLocation() string { return w.location("data/") }

// LocationOf returns the location of a table that another engine creates with the given UUID. All of the table's files
// must be below it.
func (w *warehouse) LocationOf(id uuid.UUID) string { return w.location("data/" + id.String()) }

// MakeDirectories creates the directories for a new table's files, because DuckDB does not create them. If they stay
// empty, Sweep removes them.
func (w *warehouse) MakeDirectories(location string) error {
	if w.readOnly {
		return ErrReadOnly
	}
	for _, name := range []string{"/data", "/metadata"} {
		dir, err := w.ownPath(location + name)
		if err == nil && w.root == "" {
			err = w.fs.MkdirAll(dir, 0o777)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckWithin returns an error unless a file exists and is below a table's location in the warehouse, both by name and
// after symbolic links have been resolved.
func (w *warehouse) CheckWithin(location, file string) error {
	normalized := file
	if name, ok := strings.CutPrefix(file, "file:/"); ok && !strings.HasPrefix(name, "/") {
		normalized = "file:///" + name // Java writes file:/ with one slash
	}
	suffix, ok := strings.CutPrefix(normalized, location+"/")
	if !ok || suffix == "" || path.Clean("/"+suffix) != "/"+suffix {
		return outsideError(file, location)
	}
	dir, err := w.ownPath(location + "/x")
	if err != nil {
		return err
	}
	if w.root != "" {
		return nil // a bucket has neither links nor ".."
	}
	name, err := w.ownPath(file)
	if err != nil {
		return err
	}
	if unescaped, err := url.PathUnescape(suffix); err == nil && !filepath.IsLocal(unescaped) {
		return outsideError(file, location) // some engines unescape %2e%2e
	}
	missing := fmt.Errorf("the file %q does not exist: %w", file, fs.ErrNotExist) // or its name is invalid
	realDir, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return missing
	}
	root, err := filepath.EvalSymlinks(w.dir)
	if err != nil {
		return missing
	}
	if !strings.HasPrefix(realDir, filepath.Join(root, "data")+"/") {
		return outsideError(file, location)
	}
	realFile, err := filepath.EvalSymlinks(name)
	if err != nil {
		return missing
	}
	if !strings.HasPrefix(realFile, realDir+"/") {
		return outsideError(file, location)
	}
	return nil
}

func outsideError(file, location string) error {
	return fmt.Errorf("location %q is outside the table's location %s: %w", file, location, fs.ErrPermission)
}

// ErrContent means that a file's content differs from what was written.
var ErrContent = errors.New("the file is damaged")

// Damaged is the error for a table with a damaged file. It does not wrap fs.ErrNotExist, because the table exists even
// if the file is missing.
type Damaged struct {
	File   string // path of the file, or a description of what is damaged
	Err    error  // the cause
	Remedy string // what the user can do; "" means to repair the file
}

// RemedyUnrepairable is the remedy for damage that cannot be repaired.
const RemedyUnrepairable = "delete the table, or restore it from a backup"

func (d *Damaged) Error() string {
	remedy := cmp.Or(d.Remedy, "repair it with verify --repair-from, or restore the table from a backup")
	if errors.Is(d.Err, ErrContent) {
		return fmt.Sprintf("%s: %v; %s", d.File, d.Err, remedy)
	}
	return fmt.Sprintf("%s: %v: %v; %s", d.File, ErrContent, d.Err, remedy)
}

// Is reports whether target is ErrContent.
func (d *Damaged) Is(target error) bool { return target == ErrContent }

// Unwrap returns the cause, unless it is a missing file.
func (d *Damaged) Unwrap() error {
	if errors.Is(d.Err, fs.ErrNotExist) {
		return nil
	}
	return d.Err
}
