// Package bucketfs presents the objects in a bucket as the files of a table catalog. A file is written only once, as a
// whole. Files are read from verified local copies.
package bucketfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/semaphore"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// FS is a file system whose files are objects in a bucket, with names below /data. It is safe for concurrent use.
type FS struct {
	bucket      content.Bucket
	cache       *Cache
	location    string          // the bucket's name in messages
	cachePrefix string          // prefix of the files' keys in the cache
	ctx         context.Context // canceled by Close
	cancel      context.CancelFunc
	// uploads limits the memory of uploads, in bytes.
	uploads  *semaphore.Weighted
	expected func(name string) (size int64, hash xxh3.Uint128, known bool, err error) // the function passed to Expect

	mu      sync.Mutex
	writing map[string]*newFile // files that are not closed yet
}

var _ icecat.Remote = (*FS)(nil)

// maxUploadBytes limits the total size of concurrent uploads, because each upload holds its file in memory. A larger
// file is uploaded while no other upload runs.
const maxUploadBytes = 256 << 20

// New returns a file system for the files in a bucket. location is the bucket's name in messages. cachePrefix is the
// prefix of the files' keys in the cache. Failed requests are retried for retryFor.
func New(b objstore.Bucket, c *Cache, location, cachePrefix string, retryFor time.Duration) *FS {
	f := &FS{bucket: content.Bucket{Bucket: b, RetryFor: retryFor}, cache: c, location: location, cachePrefix: cachePrefix, uploads: semaphore.NewWeighted(maxUploadBytes), writing: map[string]*newFile{}}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// Close cancels all requests and closes the bucket and the cache.
func (f *FS) Close() error {
	f.cancel()
	err := f.cache.Close()
	if c, ok := f.bucket.Bucket.(io.Closer); ok {
		err = errors.Join(err, c.Close())
	}
	return err
}

// Expect sets the function that returns a file's expected size and checksum, and whether they are known.
func (f *FS) Expect(expected func(name string) (int64, xxh3.Uint128, bool, error)) {
	f.expected = expected
}

func objectName(name string) string { return strings.TrimPrefix(name, "/") }

// OpenFile opens a file for reading, or creates one.
func (f *FS) OpenFile(name string, flag int, _ fs.FileMode) (file vfs.File, err error) {
	if flag&os.O_CREATE != 0 {
		return f.create(name)
	}
	err = f.withCopy(name, func(path string) error {
		file, err = vfs.OS{}.OpenFile(path, os.O_RDONLY, 0)
		return err
	})
	return file, err
}

// Info returns a file's size.
func (f *FS) Info(name string) (info vfs.Info, err error) {
	err = f.withCopy(name, func(path string) error {
		info, err = vfs.OS{}.Info(path)
		return err
	})
	return info, err
}

// withCopy calls use with the path of a local copy or, while the file is still being written, of the local file itself.
func (f *FS) withCopy(name string, use func(path string) error) error {
	f.mu.Lock()
	w := f.writing[name]
	if w == nil {
		f.mu.Unlock()
	} else {
		err := use(w.Name())
		f.mu.Unlock()
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// The file was closed in the meantime: Close uploaded it and moved it into the cache.
	}
	return f.cache.WithCopy(f.cachePrefix+name, f.checker(name), f.fetcher(name), use)
}

// Pin returns the path of a local copy that exists until release is called.
func (f *FS) Pin(name string) (path string, release func(), err error) {
	return f.cache.Pin(f.cachePrefix+name, f.checker(name), f.fetcher(name))
}

// Forget drops the local copy of a file.
func (f *FS) Forget(name string) { f.cache.Forget(f.cachePrefix + name) }

func (f *FS) checker(name string) func(path string) error {
	return func(path string) error {
		size, hash, known, err := f.expected(name)
		if err != nil || !known {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close() //nolint:errcheck // opened only for reading
		h := xxh3.New()
		n, err := io.Copy(h, file)
		if err == nil && (n != size || h.Sum128() != hash) {
			err = f.damaged(name, "differs from what was written: it has %d bytes with the hash %x, not %d bytes with the hash %x", n, h.Sum128().Bytes(), size, hash.Bytes())
		}
		return err
	}
}

func (f *FS) damaged(name, format string, args ...any) error {
	return &partd.CorruptError{Path: f.location + name, Offset: -1, Err: fmt.Errorf(format, args...)}
}

// fetcher returns a function that downloads and verifies an object. If no size and checksum are recorded, the function
// compares the size with the bucket's listing.
func (f *FS) fetcher(name string) func(*os.File) error {
	return func(file *os.File) error {
		size, _, known, err := f.expected(name)
		if err != nil {
			return err
		}
		return f.bucket.Retry(f.ctx, size, func(ctx context.Context) error {
			if _, err := file.Seek(0, io.SeekStart); err != nil {
				return err
			}
			if err := file.Truncate(0); err != nil {
				return err
			}
			r, err := f.bucket.ReadRange(ctx, objectName(name), 0, -1)
			if err != nil {
				return err
			}
			limit := int64(math.MaxInt64)
			if known {
				limit = size + 1 // with one extra byte, the checker notices an object that is too long
			}
			n, err := io.Copy(file, io.LimitReader(r, limit))
			err = errors.Join(err, r.Close())
			if err != nil {
				return err
			}
			if known {
				return f.checker(name)(file.Name())
			}
			size, err = f.listedSize(ctx, name)
			if err == nil && size != n {
				err = f.damaged(name, "has %d bytes, but the bucket's listing says %d", n, size)
			}
			return err
		})
	}
}

// Size returns an object's size according to the bucket's listing, even if there is a local copy.
func (f *FS) Size(name string) (size int64, err error) {
	err = f.bucket.Retry(f.ctx, 0, func(ctx context.Context) (err error) {
		size, err = f.listedSize(ctx, name)
		return err
	})
	return size, err
}

func (f *FS) listedSize(ctx context.Context, name string) (int64, error) {
	for o, err := range f.bucket.List(ctx, objectName(name), "") {
		if err != nil || o.Name == objectName(name) {
			return o.Size, err
		}
		break
	}
	return 0, f.damaged(name, "is missing from the bucket's listing")
}

func (f *FS) Remove(name string) error {
	f.Forget(name)
	return f.bucket.Retry(f.ctx, 0, func(ctx context.Context) error { return f.bucket.Delete(ctx, objectName(name)) })
}

// Files returns the sizes of all files, by name.
func (f *FS) Files(ctx context.Context) (map[string]int64, error) {
	objects, err := f.bucket.Objects(ctx, "data/")
	files := map[string]int64{}
	for _, o := range objects {
		files["/"+o.Name] = o.Size
	}
	return files, err
}

func (f *FS) HasFiles(ctx context.Context) (bool, error) {
	for _, err := range f.bucket.List(ctx, "data/", "") {
		return err == nil, err
	}
	return false, nil
}

// Mkdir, MkdirAll and SyncDir do nothing, because a bucket has no directories.
func (f *FS) Mkdir(string, fs.FileMode) error    { return nil }
func (f *FS) MkdirAll(string, fs.FileMode) error { return nil }
func (f *FS) SyncDir(string) error               { return nil }

// Rename and ReadDir are not supported. NewLock returns a lock on a local file.
func (f *FS) Rename(string, string) error      { return errors.ErrUnsupported }
func (f *FS) ReadDir(string) (vfs.Dir, error)  { return nil, errors.ErrUnsupported }
func (f *FS) NewLock(name string) (l vfs.Lock) { return vfs.OS{}.NewLock(name) }

// newFile is a file that is open for writing. It is a local file until Sync or Close uploads it.
type newFile struct {
	vfs.File
	f           *FS
	name        string
	triedUpload bool  // Sync has tried to upload the file
	err         error // result of the upload
}

func (f *FS) create(name string) (vfs.File, error) {
	file, err := vfs.OS{}.OpenFile(f.cache.uniquePath(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	w := &newFile{File: file, f: f, name: name}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.writing[name] != nil {
		return nil, errors.Join(&fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}, file.Close(), os.Remove(file.Name()))
	}
	f.writing[name] = w
	return w, nil
}

func (w *newFile) Sync() error {
	if !w.triedUpload {
		w.triedUpload = true
		w.err = w.upload()
	}
	return w.err
}

// Close uploads the file unless Sync has done so.
func (w *newFile) Close() error {
	err := errors.Join(w.Sync(), w.File.Close())
	if err == nil {
		err = w.f.cache.Add(w.Name(), w.f.cachePrefix+w.name) // Keep the local copy, because a new file is often read soon.
	} else {
		_ = os.Remove(w.Name()) // err already has the reason
	}
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	delete(w.f.writing, w.name)
	return err
}

// upload creates the object. If the object already exists with the same content, upload succeeds: names are unique, so
// an earlier attempt must have created the object, and only its response was lost.
func (w *newFile) upload() error {
	info, err := w.Info()
	if err != nil {
		return err
	}
	size := min(info.Size, maxUploadBytes)
	if err := w.f.uploads.Acquire(w.f.ctx, size); err != nil {
		return err
	}
	defer w.f.uploads.Release(size)
	data, err := os.ReadFile(w.Name())
	if err != nil {
		return err
	}
	err = w.f.bucket.Create(w.f.ctx, objectName(w.name), data)
	if errors.Is(err, content.ErrDiffers) {
		err = w.f.damaged(w.name, "already exists, with different content from the file just written")
	}
	return err
}
