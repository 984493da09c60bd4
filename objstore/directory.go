package objstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// Directory is a bucket in a directory, with one file per object. Processes on one machine can share
// it; processes on several machines need a network file system with link(2). Created objects survive
// a power loss.
type Directory struct{ root string }

var _ Bucket = (*Directory)(nil)

// errNilBucket is the error for using a nil bucket or a zero Directory.
var errNilBucket = fmt.Errorf("%w: the bucket is nil or a zero value: create it with a constructor", ErrRefused)

// nonNil returns b or, if b is nil, a bucket whose methods all return errNilBucket.
func nonNil(b Bucket) Bucket {
	if b == nil {
		return new(Directory)
	}
	return b
}

// The names of temporary files begin with tempPrefix. List removes temporary files older than
// leftoverAge, because their writers must have been killed.
const (
	tempPrefix  = ".new-"
	leftoverAge = 24 * time.Hour
)

// OpenDirectory opens a bucket in a directory. If the directory does not exist, OpenDirectory
// creates it. It makes the directory's name durable.
func OpenDirectory(dir string) (*Directory, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	isNew := !exists(root)
	parents := []string{filepath.Dir(root)} // synced even if root exists, because its creator may not have synced its name
	for d := parents[0]; !exists(d); d = filepath.Dir(d) {
		parents = append(parents, filepath.Dir(d))
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	for _, parent := range parents {
		if err := (vfs.OS{}).SyncDir(parent); err != nil && (isNew || !errors.Is(err, fs.ErrPermission)) {
			return nil, fmt.Errorf("syncing the parent of the bucket's directory: %w", err)
		}
	}
	return &Directory{dir}, nil
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

func (d *Directory) String() string { return d.root }

// path returns the path of an object's file, which must be below the root.
func (d *Directory) path(name string) (string, error) {
	if d.root == "" {
		return "", errNilBucket
	}
	if !filepath.IsLocal(name) || strings.HasPrefix(filepath.Base(name), tempPrefix) {
		return "", fmt.Errorf("object %q: %w: it is not a valid file name", name, ErrRefused)
	}
	return filepath.Join(d.root, filepath.FromSlash(name)), nil
}

// Create creates an object; see [Bucket].
func (d *Directory) Create(ctx context.Context, name string, data []byte) (err error) {
	path, err := d.path(name)
	err = cmp.Or(err, canceled.Err(ctx))
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	tempPath := filepath.Join(dir, tempPrefix+rand.Text())
	f, err := os.OpenFile(tempPath, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tempPath)) }()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err != nil {
		return err
	}
	if err := os.Link(tempPath, path); err != nil {
		return err // io/fs.ErrExist if the object exists
	}
	for ; ; dir = filepath.Dir(dir) { // also sync parent directories, because they may be new
		if err := (vfs.OS{}).SyncDir(dir); err != nil || dir == filepath.Clean(d.root) {
			return err
		}
	}
}

// ReadRange reads a part of an object; see [Bucket].
func (d *Directory) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	path, err := d.path(name)
	err = cmp.Or(err, canceled.Err(ctx))
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if length < 0 {
		length = 1<<63 - 1 - offset
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, offset, length), f}, nil
}

// List lists objects; see [Bucket]. It also removes old temporary files of killed writers.
func (d *Directory) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		objects, err := d.list(ctx, prefix, after)
		for _, o := range objects {
			if !yield(o, nil) {
				return
			}
		}
		if err != nil {
			yield(Object{}, err)
		}
	}
}

func (d *Directory) list(ctx context.Context, prefix, after string) (objects []Object, err error) {
	if d.root == "" {
		return nil, errNilBucket
	}
	startDir := filepath.Join(d.root, filepath.FromSlash(prefix[:strings.LastIndexByte(prefix, '/')+1]))
	err = filepath.WalkDir(startDir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the prefix is unused, or the file was just removed
		}
		err = cmp.Or(err, canceled.Err(ctx))
		if err != nil || e.IsDir() {
			return err
		}
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > leftoverAge {
				_ = os.Remove(path) // if this fails, the next List tries again
			}
			return nil
		}
		rel, err := filepath.Rel(d.root, path)
		name := filepath.ToSlash(rel)
		if err != nil || !strings.HasPrefix(name, prefix) || name <= after {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		objects = append(objects, Object{name, info.Size(), info.ModTime()})
		return nil
	})
	slices.SortFunc(objects, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
	return objects, err
}

// Delete removes an object; see [Bucket].
func (d *Directory) Delete(ctx context.Context, name string) error {
	path, err := d.path(name)
	err = cmp.Or(err, canceled.Err(ctx))
	if err != nil {
		return err
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
