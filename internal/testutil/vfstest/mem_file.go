package vfstest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/go-partd/partd/internal/disk/vfs"
)

func (m *Mem) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.openInode(name, flag, perm)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	m.open++
	return &memFile{mem: m, node: n, name: name, flag: flag}, nil
}

func (m *Mem) openInode(name string, flag int, perm fs.FileMode) (*inode, error) {
	dir, base, n, err := m.lookup(name)
	writes := flag&(os.O_WRONLY|os.O_RDWR) != 0
	switch {
	case err != nil:
		return nil, err
	case m.MaxOpen > 0 && m.open >= m.MaxOpen:
		return nil, syscall.EMFILE
	case n == nil && flag&os.O_CREATE == 0:
		return nil, syscall.ENOENT
	case n == nil:
		n = m.newInode(perm.Perm())
		m.apply(nameChange{to: place{dir, base}, node: n})
	case flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, syscall.EEXIST
	case n.isDir() && (writes || flag&os.O_CREATE != 0):
		return nil, syscall.EISDIR
	case flag&os.O_TRUNC != 0 && writes:
		m.truncate(n, 0)
	}
	return n, nil
}

// memFile is an open file. Mem.mu guards pos and closed.
type memFile struct {
	mem    *Mem
	node   *inode
	name   string
	flag   int
	pos    int64
	closed bool
}

func (f *memFile) Name() string { return f.name }

func (f *memFile) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

func (f *memFile) check(op string, write bool, off int64) error {
	mode := f.flag & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
	switch {
	case f.closed:
		return f.fail(op, fs.ErrClosed)
	case write && mode == os.O_RDONLY, !write && mode == os.O_WRONLY:
		return f.fail(op, syscall.EBADF)
	case f.node.isDir():
		return f.fail(op, syscall.EISDIR)
	case off < 0:
		return f.fail(op, syscall.EINVAL)
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.mem.mu.RLock()
	defer f.mem.mu.RUnlock()
	if err := f.check("read", false, off); err != nil {
		return 0, err
	}
	n := f.node.current.readAt(p, off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Write(p []byte) (int, error) {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if err := f.check("write", true, 0); err != nil {
		return 0, err
	}
	if f.flag&os.O_APPEND != 0 {
		f.pos = f.node.current.size
	}
	f.mem.write(f.node, p, f.pos)
	f.pos += int64(len(p))
	return len(p), nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if err := f.check("write", true, off); err != nil {
		return 0, err
	}
	if f.flag&os.O_APPEND != 0 {
		return 0, f.fail("write", syscall.EINVAL) // package os rejects this too
	}
	f.mem.write(f.node, p, off)
	return len(p), nil
}

func (f *memFile) Truncate(size int64) error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if err := f.check("truncate", true, size); errors.Is(err, syscall.EBADF) {
		return f.fail("truncate", syscall.EINVAL) // like ftruncate(2)
	} else if err != nil {
		return err
	}
	f.mem.truncate(f.node, size)
	return nil
}

// Punch implements [vfs.Puncher].
func (f *memFile) Punch(off, n int64) error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if err := f.check("fallocate", true, off); err != nil {
		return err
	}
	n = min(n, f.node.current.size-off)
	if n > 0 {
		f.mem.write(f.node, make([]byte, n), off)
		f.node.current.punch(off, n)
	}
	return nil
}

func (f *memFile) Sync() error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if f.closed {
		return f.fail("sync", fs.ErrClosed)
	}
	if f.node.isDir() {
		f.mem.syncNames(f.node)
		return nil
	}
	f.node.durable, f.node.isOwned, f.node.log = f.node.onDisk(), false, nil
	return nil
}

func (f *memFile) Info() (vfs.Info, error) {
	f.mem.mu.RLock()
	defer f.mem.mu.RUnlock()
	if f.closed {
		return vfs.Info{}, f.fail("fstat", fs.ErrClosed)
	}
	return f.node.info(), nil
}

func (f *memFile) Close() error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if f.closed {
		return f.fail("close", fs.ErrClosed)
	}
	f.closed = true
	f.mem.open--
	return nil
}

// change is an unsynced write or size change.
type change struct {
	off       int64  // offset of data, or the new size
	data      []byte // nil for a size change
	sizeAfter int64  // file size after the change
}

func (m *Mem) write(n *inode, p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	m.prepareChange(n)
	n.current.writeAt(p, off)
	size := n.current.size
	if n.intended != nil { // the system writes whole pages, and thereby also writes bytes whose sync has failed
		first := off / pageSize * pageSize
		pages := make([]byte, (off+int64(len(p))-first+pageSize-1)/pageSize*pageSize)
		n.intended.writeAt(pages[:n.current.readAt(pages, first)], first)
		size = n.intended.size
	}
	n.log = append(n.log, change{off: off, data: slices.Clone(p), sizeAfter: size})
}

func (m *Mem) truncate(n *inode, size int64) {
	m.prepareChange(n)
	n.current.truncate(size)
	if n.intended != nil {
		n.intended.truncate(size)
	}
	n.log = append(n.log, change{off: size, sizeAfter: size})
}

// prepareChange makes n.current modifiable, and updates the file's times. Call it before a change.
func (m *Mem) prepareChange(n *inode) {
	if !n.isOwned {
		n.current, n.isOwned = n.current.clone(), true
	}
	m.clock++
	n.mtime, n.ctime = m.clock, m.clock
}

// ReadDir returns a reader for a directory's current names.
func (m *Mem) ReadDir(name string) (vfs.Dir, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	switch {
	case err != nil:
	case !n.isDir():
		err = syscall.ENOTDIR
	case m.MaxOpen > 0 && m.open >= m.MaxOpen:
		err = syscall.EMFILE
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	d := &memDir{mem: m, name: name}
	for base, node := range n.names {
		d.entries = append(d.entries, fs.FileInfoToDirEntry(memInfo{path.Base(base), node.info()}))
	}
	// Sort by inode number, which is reproducible. Programs must not rely on an order by name.
	slices.SortFunc(d.entries, func(a, b fs.DirEntry) int { return int(inoOf(a) - inoOf(b)) })
	m.open++
	return d, nil
}

func inoOf(e fs.DirEntry) int64 {
	info, _ := e.Info() // never fails for a memInfo
	return int64(info.Sys().(vfs.Info).Ino)
}

type memDir struct {
	mem     *Mem
	name    string
	entries []fs.DirEntry
	closed  bool
}

func (d *memDir) Next(n int) ([]fs.DirEntry, error) {
	d.mem.mu.Lock()
	defer d.mem.mu.Unlock()
	if d.closed {
		return nil, &fs.PathError{Op: "readdir", Path: d.name, Err: fs.ErrClosed}
	}
	if n <= 0 {
		n = len(d.entries)
	} else if len(d.entries) == 0 {
		return nil, io.EOF
	}
	next := d.entries[:min(n, len(d.entries))]
	d.entries = d.entries[len(next):]
	return next, nil
}

func (d *memDir) Close() error {
	d.mem.mu.Lock()
	defer d.mem.mu.Unlock()
	if d.closed {
		return &fs.PathError{Op: "close", Path: d.name, Err: fs.ErrClosed}
	}
	d.closed = true
	d.mem.open--
	return nil
}

type memInfo struct {
	name string
	info vfs.Info
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.info.Size }
func (i memInfo) Mode() fs.FileMode  { return i.info.Mode }
func (i memInfo) ModTime() time.Time { return time.Unix(0, i.info.MTime) }
func (i memInfo) IsDir() bool        { return i.info.Mode.IsDir() }
func (i memInfo) Sys() any           { return i.info }
