package icecat

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	iceio "github.com/apache/iceberg-go/io"
	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/vfs"
)

// WrittenFile is a file that was written: what the catalog keeps of it, since
// Iceberg's manifests carry no checksum.
type WrittenFile struct {
	Path string // location, as Iceberg's metadata has it
	Size int64
	Hash xxh3.Uint128
}

// FileIO is Iceberg's view of the file system. Each file that it writes is
// synced from when it is closed, and the directories by Sync, side by side, since
// the disk can make one journal entry of them; Sync waits for all. It remembers
// what it wrote, so that a commit can record its files, and one that failed can
// remove them.
type FileIO struct {
	cat    *Catalog
	noSync bool // it syncs nothing
	syncs  errgroup.Group

	mu      sync.Mutex
	written []WrittenFile
	failure error           // the first to write a file
	dirs    map[string]bool // where names were made and not yet synced
}

var _ iceio.WriteFileIO = (*FileIO)(nil)

// Remote is a file system of what is not on this machine: files are /data/…, whole and
// immutable once they are closed, and directories are no things.
type Remote interface {
	vfs.FS
	// Files returns all files with their sizes.
	Files(ctx context.Context) (map[string]int64, error)
	// Expect tells what a file has to be. Known is false for those of others.
	Expect(func(name string) (size int64, hash xxh3.Uint128, known bool, err error))
	// Pin returns a copy on this machine, which stays until it is released.
	Pin(name string) (path string, release func(), err error)
	// Forget has the file read from where it is when it is read next.
	Forget(name string)
}

// recorded is what the catalog has of a file.
func (c *Catalog) recorded(name string) (size int64, hash xxh3.Uint128, known bool, err error) {
	w, known, err := c.FileAt(context.Background(), c.location(strings.TrimPrefix(name, "/")))
	return w.Size, w.Hash, known, err
}

// Remove removes a file of the warehouse.
func (f *FileIO) Remove(name string) error {
	p, err := f.cat.own(name)
	if err != nil {
		return err
	}
	return f.cat.fs.Remove(p)
}

// Create makes a file, which must not exist.
func (f *FileIO) Create(name string) (iceio.FileWriter, error) {
	p, err := f.cat.own(name)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(p)
	file, err := f.cat.fs.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	for tries := 0; errors.Is(err, fs.ErrNotExist) && tries < 10; tries++ { // a Sweep may remove it again while it is empty
		if err := f.cat.fs.MkdirAll(dir, 0o777); err != nil {
			return nil, err
		}
		f.touched(filepath.Dir(dir))
		f.touched(filepath.Dir(filepath.Dir(dir)))
		file, err = f.cat.fs.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	}
	if err != nil {
		return nil, f.fail(err)
	}
	f.touched(dir)
	w := &newFile{io: f, name: name, file: file, hash: xxh3.New()}
	w.buf = bufio.NewWriterSize(io.MultiWriter(file, w.hash), 64<<10)
	return w, nil
}

// fail remembers the first failure to write a file.
func (f *FileIO) fail(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failure == nil {
		f.failure = err
	}
	return err
}

// Failure returns why the first of the files that could not be written was not, nil
// if there is none. Iceberg's library may say only that it stopped.
func (f *FileIO) Failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failure
}

// WriteFile writes a file at once.
func (f *FileIO) WriteFile(name string, b []byte) error {
	w, err := f.Create(name)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return errors.Join(err, w.Close())
}

func (f *FileIO) touched(dir string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirs[dir] = true
}

// Sync returns when the files written, and their names, survive a loss of power.
func (f *FileIO) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for dir := range f.dirs {
		if !f.noSync {
			f.syncs.Go(func() error { return f.cat.fs.SyncDir(dir) })
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

// RemoveWritten removes all that was written, after a commit that surely failed.
// What it cannot remove is an orphan, for Expire to find.
func (f *FileIO) RemoveWritten() { f.RemoveAfter(0) }

// RemoveFailed is RemoveWritten after an error, unless the outcome of the commit is not
// known: then Expire decides.
func (f *FileIO) RemoveFailed(err error) {
	if err != nil && !errors.Is(err, partd.ErrUnknownOutcome) {
		f.RemoveWritten()
	}
}

// RemoveAfter removes what was written after the first n files, and forgets it: they
// are of no use, and the first n are.
func (f *FileIO) RemoveAfter(n int) {
	_ = f.syncs.Wait()
	f.mu.Lock()
	gone := f.written[n:]
	f.written = f.written[:n:n]
	f.mu.Unlock()
	for _, w := range gone {
		_ = f.Remove(w.Path)
	}
}

// newFile is a file being written.
type newFile struct {
	io   *FileIO
	name string
	file vfs.File
	buf  *bufio.Writer
	hash *xxh3.Hasher
	size int64
	err  error
}

func (w *newFile) Write(b []byte) (int, error) {
	n, err := w.buf.Write(b)
	w.size += int64(n)
	if err != nil {
		w.err = w.io.fail(err)
	}
	return n, err
}

func (w *newFile) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(struct{ io.Writer }{w}, r)
	return n, err
}

// Close begins to sync the file, and closes it then. A file that could not be written whole is an
// error here, too, for not every caller looks at what Write said.
func (w *newFile) Close() error {
	if w.file == nil {
		return nil
	}
	file, err := w.file, errors.Join(w.err, w.buf.Flush())
	w.file = nil
	if err != nil || w.io.noSync {
		if err = errors.Join(err, file.Close()); err != nil {
			_ = w.io.fail(err)
		}
	} else {
		w.io.syncs.Go(func() error { return errors.Join(file.Sync(), file.Close()) })
	}
	w.io.mu.Lock()
	defer w.io.mu.Unlock()
	w.io.written = append(w.io.written, WrittenFile{w.name, w.size, w.hash.Sum128()})
	return err
}
