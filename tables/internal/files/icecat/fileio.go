package icecat

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	iceio "github.com/apache/iceberg-go/io"
	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
)

// WrittenFile is the catalog's record of a written file. Iceberg's manifests contain no checksums.
type WrittenFile struct {
	Path string // location as in Iceberg's metadata
	Size int64
	Hash xxh3.Uint128
}

// Check returns an error unless a file with the given size and hash matches w.
func (w WrittenFile) Check(size int64, hash xxh3.Uint128) error {
	switch {
	case size > w.Size:
		return fmt.Errorf("%w: it is larger than the %d bytes that were written", ErrContent, w.Size)
	case size < w.Size:
		return fmt.Errorf("%w: it has %d bytes, but %d were written", ErrContent, size, w.Size)
	case hash != w.Hash:
		return fmt.Errorf("%w: its checksum is %x, but %x was written", ErrContent, hash.Bytes(), w.Hash.Bytes())
	}
	return nil
}

// records contains what the catalog knows about files: their sizes and checksums, which are in the database, and caches
// of parsed files.
type records struct {
	*database
	*warehouse
	maxPage int64
	footers *Cache[*Footer] // parsed Parquet footers
	small   *Cache[bool]    // see FileIO.Small
	tallies *Cache[Tally]   // tallies of the manifests that FileIO.vet has checked, by location
	// vetted contains the normalized content of each manifest that FileIO.vet has checked, by location and hash. It
	// contains nil for a manifest that was already normalized, and for a manifest list.
	vetted *Cache[[]byte]
}

// FileIO is the file system that Iceberg's library uses. Closing a file starts a sync in the background. The syncs run
// concurrently, so that the disk can combine them; Sync waits for all of them and then syncs the directories. FileIO
// records the files that it writes. A commit stores these records or, if it fails, removes the files.
type FileIO struct {
	records *records
	noSync  bool
	skipVet bool // do not check manifests and manifest lists with vet, because the caller does
	syncs   errgroup.Group

	mu       sync.Mutex
	written  []WrittenFile
	firstErr error           // the first error from writing a file
	dirs     map[string]bool // directories with new entries that are not synced yet
}

// NewIO returns a FileIO for one reader or writer.
func (r *records) NewIO() *FileIO {
	f := &FileIO{records: r, dirs: map[string]bool{}}
	f.syncs.SetLimit(maxSyncs)
	return f
}

// NewCheckIO returns a FileIO that does not check manifests and manifest lists, because its caller does.
func (r *records) NewCheckIO() *FileIO {
	f := r.NewIO()
	f.skipVet = true
	return f
}

// maxSyncs limits the number of concurrent syncs in a commit.
const maxSyncs = 8

var _ iceio.WriteFileIO = (*FileIO)(nil)

// Remote is a file system on another machine. Its files are named /data/…. A file becomes visible and immutable when it
// is closed.
type Remote interface {
	vfs.FS
	// Files returns the sizes of all files.
	Files(ctx context.Context) (map[string]int64, error)
	// HasFiles reports whether there are files.
	HasFiles(ctx context.Context) (bool, error)
	// Size returns a file's size in the bucket, even if there is a local copy.
	Size(name string) (int64, error)
	// Expect sets a function that returns a file's recorded size and hash. known is false for other engines' files.
	Expect(func(name string) (size int64, hash xxh3.Uint128, known bool, err error))
	// Pin returns the path of a local copy of a file. The copy exists until release is called.
	Pin(name string) (path string, release func(), err error)
	// Forget drops a file's local copy, so that the next read fetches the file again.
	Forget(name string)
}

// Remove removes a file from the warehouse.
func (f *FileIO) Remove(name string) error {
	p, err := f.records.ownPath(name)
	if err != nil {
		return err
	}
	return f.records.fs.Remove(p)
}

// Create creates a file, which must not exist. A manifest list is created when it is closed.
func (f *FileIO) Create(name string) (iceio.FileWriter, error) {
	if isManifestList(name) {
		return &listFile{fileIO: f, name: name}, nil
	}
	return f.create(name)
}

func (f *FileIO) create(name string) (iceio.FileWriter, error) {
	p, err := f.records.ownPath(name)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(p)
	file, err := f.records.fs.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	for attempt := 0; errors.Is(err, fs.ErrNotExist) && attempt < 10; attempt++ { // a concurrent Sweep may keep removing the empty directory
		if err := f.records.fs.MkdirAll(dir, 0o777); err != nil {
			return nil, err
		}
		f.syncLater(filepath.Dir(dir))
		f.syncLater(filepath.Dir(filepath.Dir(dir)))
		file, err = f.records.fs.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	}
	if err != nil {
		return nil, f.fail(err)
	}
	f.syncLater(dir)
	w := &newFile{fileIO: f, name: name, file: file, hash: xxh3.New()}
	w.buf = bufio.NewWriterSize(io.MultiWriter(file, w.hash), 64<<10)
	return w, nil
}

// fail records err, an error from writing a file. It returns err.
func (f *FileIO) fail(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.firstErr == nil {
		f.firstErr = err
	}
	return err
}

// Failure returns the first error from writing a file, or nil. Iceberg's library may hide that error.
func (f *FileIO) Failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.firstErr
}

// WriteFile creates a file with the given content.
func (f *FileIO) WriteFile(name string, b []byte) error {
	w, err := f.Create(name)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return errors.Join(err, w.Close())
}

func (f *FileIO) syncLater(dir string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirs[dir] = true
}

// Sync waits until the written files and their directory entries are durable.
func (f *FileIO) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for dir := range f.dirs {
		if !f.noSync {
			f.syncs.Go(func() error { return parallel.Catch(func() error { return f.records.fs.SyncDir(dir) }) })
		}
	}
	clear(f.dirs)
	return f.syncs.Wait()
}

// Written returns the files written so far.
func (f *FileIO) Written() []WrittenFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.written
}

// RemoveWritten removes all written files, after a commit that has certainly failed. If a file cannot be removed, Sweep
// removes it later.
func (f *FileIO) RemoveWritten() { f.RemoveAllAfter(0) }

// RemoveFailed removes all written files if err means that a commit failed. If the outcome is unknown, it leaves them
// to Sweep.
func (f *FileIO) RemoveFailed(err error) {
	if err != nil && !errors.Is(err, partd.ErrUnknownOutcome) {
		f.RemoveWritten()
	}
}

// RemoveAllAfter removes all written files except the first n.
func (f *FileIO) RemoveAllAfter(n int) {
	_ = f.syncs.Wait() // an error does not matter, because the files are removed
	f.mu.Lock()
	removed := f.written[n:]
	f.written = f.written[:n:n]
	f.mu.Unlock()
	for _, w := range removed {
		_ = f.Remove(w.Path) // Sweep removes what remains
	}
}

type newFile struct {
	fileIO *FileIO
	name   string
	file   vfs.File
	buf    *bufio.Writer
	hash   *xxh3.Hasher
	size   int64
	err    error
}

func (w *newFile) Write(b []byte) (int, error) {
	n, err := w.buf.Write(b)
	w.size += int64(n)
	if err != nil {
		w.err = w.fileIO.fail(err)
	}
	return n, err
}

func (w *newFile) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(struct{ io.Writer }{w}, r) // the struct has no method ReadFrom, which io.Copy would call
	return n, err
}

// Close starts a background sync, which then closes the file. It also returns an earlier error from Write, because some
// callers ignore errors from Write.
func (w *newFile) Close() error {
	if w.file == nil {
		return nil
	}
	file, err := w.file, errors.Join(w.err, w.buf.Flush())
	w.file = nil
	if err != nil || w.fileIO.noSync {
		err = errors.Join(err, file.Close())
		if err != nil {
			_ = w.fileIO.fail(err) // fail only records and returns err
		}
	} else {
		w.fileIO.syncs.Go(func() error { return parallel.Catch(func() error { return errors.Join(file.Sync(), file.Close()) }) })
	}
	w.fileIO.mu.Lock()
	defer w.fileIO.mu.Unlock()
	w.fileIO.written = append(w.fileIO.written, WrittenFile{w.name, w.size, w.hash.Sum128()})
	return err
}
