package icecat

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	iceio "github.com/apache/iceberg-go/io"
	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

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
	dirs    map[string]bool // where names were made and not yet synced
}

var _ iceio.WriteFileIO = (*FileIO)(nil)

// local returns the file that a location is about. Where the warehouse was
// moved, the locations still begin with the directory that it was made in.
func (c *Catalog) local(location string) (string, error) {
	p, ok := strings.CutPrefix(location, "file://")
	if ok {
		var err error
		if p, err = url.PathUnescape(p); err != nil {
			return "", fmt.Errorf("location %q: %w", location, err)
		}
	}
	if !filepath.IsAbs(p) {
		return "", fmt.Errorf("location %q is not that of a local file", location)
	}
	if rest, ok := strings.CutPrefix(p, c.madeIn+"/"); ok {
		return filepath.Join(c.dir, rest), nil
	}
	return filepath.Clean(p), nil
}

// own is local for a file that is to be written or removed, which must lie in
// the warehouse whatever metadata made by others says.
func (c *Catalog) own(location string) (string, error) {
	p, err := c.local(location)
	if err == nil && !strings.HasPrefix(p, c.dir+"/data/") {
		err = fmt.Errorf("location %q is outside of the warehouse: %w", location, fs.ErrPermission)
	}
	return p, err
}

// Open opens a file for reading.
func (f *FileIO) Open(name string) (iceio.File, error) {
	p, err := f.cat.local(name)
	if err != nil {
		return nil, err
	}
	file, err := f.cat.fs.OpenFile(p, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Info()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &openFile{SectionReader: io.NewSectionReader(file, 0, info.Size), file: file, info: info}, nil
}

// ReadFile returns what a file holds.
func (f *FileIO) ReadFile(name string) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(file)
	return b, errors.Join(err, file.Close())
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
		return nil, err
	}
	f.touched(dir)
	w := &newFile{io: f, name: name, file: file, hash: xxh3.New()}
	w.buf = bufio.NewWriterSize(io.MultiWriter(file, w.hash), 64<<10)
	return w, nil
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
func (f *FileIO) RemoveWritten() {
	_ = f.syncs.Wait()
	for _, w := range f.Written() {
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
		w.err = err
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
		err = errors.Join(err, file.Close())
	} else {
		w.io.syncs.Go(func() error { return errors.Join(file.Sync(), file.Close()) })
	}
	w.io.mu.Lock()
	defer w.io.mu.Unlock()
	w.io.written = append(w.io.written, WrittenFile{w.name, w.size, w.hash.Sum128()})
	return err
}

// openFile is a file being read.
type openFile struct {
	*io.SectionReader
	file vfs.File
	info vfs.Info
}

func (o *openFile) Close() error               { return o.file.Close() }
func (o *openFile) Stat() (fs.FileInfo, error) { return fileInfo{o.file.Name(), o.info}, nil }

type fileInfo struct {
	name string
	info vfs.Info
}

func (i fileInfo) Name() string       { return filepath.Base(i.name) }
func (i fileInfo) Size() int64        { return i.info.Size }
func (i fileInfo) Mode() fs.FileMode  { return i.info.Mode }
func (i fileInfo) ModTime() time.Time { return time.Unix(0, i.info.MTime) }
func (i fileInfo) IsDir() bool        { return i.info.Mode.IsDir() }
func (i fileInfo) Sys() any           { return nil }
