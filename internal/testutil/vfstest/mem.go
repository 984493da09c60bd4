// Package vfstest provides file systems for tests: [Mount] mounts a small one that a test can fill,
// [Mem] loses unsynced data in a simulated crash, [Inject] makes a chosen call fail, and [Flip] flips
// a bit in a read.
package vfstest

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// Mem is a file system in memory. [Mem.Crash] simulates a power failure, which loses unsynced data.
// As on Unix, an open file remains usable after its name was removed or reused.
//
// The clock advances by one nanosecond per change, so that runs are reproducible.
type Mem struct {
	// ZeroLostPages selects what a crash does to a file if it loses some of the file's new pages.
	// If ZeroLostPages is set, the file keeps its new size, and lost pages become zeros.
	// Otherwise the file ends before the first lost page, as on a file system that writes
	// data before sizes. Set it before use.
	ZeroLostPages bool
	// MaxOpen is the maximum number of open files, open directories and held locks; 0 means
	// no limit. When it is reached, opening fails with EMFILE. Set it before use.
	MaxOpen int

	mu       sync.RWMutex
	unlocked sync.Cond // signals that a lock was released; uses mu
	root     *inode
	pending  []nameChange // unsynced name changes, oldest first
	lastIno  uint64
	clock    int64
	open     int
}

var _ vfs.FS = (*Mem)(nil)

// NewMem returns a file system that has only a root directory. Relative names start there.
func NewMem() *Mem {
	m := new(Mem).emptyClone()
	m.root = m.newInode(fs.ModeDir | 0o777)
	m.root.links = 1
	return m
}

// OpenCount returns the number of open files, open directories and held locks, so that tests can
// detect leaks.
func (m *Mem) OpenCount() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.open
}

// inode is a file or a directory. Mem.mu guards its fields.
type inode struct {
	ino          uint64
	mode         fs.FileMode
	links        uint64
	mtime, ctime int64

	// For a file, current is the content that programs see, and durable is the content that
	// certainly survives a crash. log contains the changes from durable to current. If isOwned is
	// false, current is shared: clone it before a change.
	current, durable *content
	isOwned          bool
	log              []change
	// intended is the content that the disk will have once all changes in log are written. It is
	// nil unless a sync failed, because until then it would equal current.
	intended *content

	// For a directory, names are what programs see, and durableNames certainly survive a crash. The
	// unsynced changes are in Mem.pending, because a rename can affect two directories.
	names, durableNames map[string]*inode
	ownsNames           bool

	locks lockState
}

func (n *inode) isDir() bool { return n.mode.IsDir() }

func (m *Mem) newInode(mode fs.FileMode) *inode {
	m.lastIno++
	m.clock++
	n := &inode{ino: m.lastIno, mode: mode, mtime: m.clock, ctime: m.clock}
	if n.isDir() {
		n.names = map[string]*inode{}
		n.durableNames = n.names
	} else {
		n.current = &content{owner: new(token)}
		n.durable = n.current
	}
	return n
}

func (n *inode) info() vfs.Info {
	i := vfs.Info{Links: n.links, Dev: 1, Ino: n.ino, Mode: n.mode, MTime: n.mtime, CTime: n.ctime}
	if !n.isDir() {
		i.Size, i.Disk = n.current.size, n.current.diskBytes()
	}
	return i
}

// lookup resolves a name. dir is the parent directory, or nil for the root. base is the last element
// of the name. n is nil if the name does not exist.
func (m *Mem) lookup(name string) (dir *inode, base string, n *inode, err error) {
	if name == "" {
		return nil, "", nil, syscall.ENOENT
	}
	if strings.IndexByte(name, 0) >= 0 {
		return nil, "", nil, syscall.EINVAL
	}
	if name[0] != '/' {
		name = "/" + name
	}
	rest := path.Clean(name)[1:]
	n = m.root
	for rest != "" {
		if n == nil {
			return nil, "", nil, syscall.ENOENT
		}
		if !n.isDir() {
			return nil, "", nil, syscall.ENOTDIR
		}
		base, rest, _ = strings.Cut(rest, "/")
		if len(base) > 255 {
			return nil, "", nil, syscall.ENAMETOOLONG
		}
		dir, n = n, n.names[base]
	}
	return dir, base, n, nil
}

func (m *Mem) find(name string) (*inode, error) {
	_, _, n, err := m.lookup(name)
	if err == nil && n == nil {
		err = syscall.ENOENT
	}
	return n, err
}

func (m *Mem) Info(name string) (vfs.Info, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.find(name)
	if err != nil {
		return vfs.Info{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return n.info(), nil
}

func (m *Mem) Mkdir(name string, perm fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mkdir(name, perm)
}

func (m *Mem) mkdir(name string, perm fs.FileMode) error {
	dir, base, n, err := m.lookup(name)
	if err == nil && n != nil {
		err = syscall.EEXIST
	}
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	m.apply(nameChange{to: place{dir, base}, node: m.newInode(fs.ModeDir | perm.Perm())})
	return nil
}

func (m *Mem) MkdirAll(name string, perm fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = path.Clean("/" + name)
	for i := 1; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		n, err := m.find(name[:i])
		switch {
		case err == syscall.ENOENT:
			if err := m.mkdir(name[:i], perm); err != nil {
				return err
			}
		case err == nil && !n.isDir():
			return &fs.PathError{Op: "mkdir", Path: name[:i], Err: syscall.ENOTDIR}
		case err != nil:
			return &fs.PathError{Op: "mkdir", Path: name[:i], Err: err}
		}
	}
	return nil
}

func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, n, err := m.lookup(name)
	switch {
	case err != nil:
	case n == nil:
		err = syscall.ENOENT
	case dir == nil:
		err = syscall.EBUSY
	case len(n.names) > 0:
		err = syscall.ENOTEMPTY
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	m.apply(nameChange{from: place{dir, base}, node: n})
	return nil
}

func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.rename(oldName, newName); err != nil {
		return &os.LinkError{Op: "rename", Old: oldName, New: newName, Err: err}
	}
	return nil
}

func (m *Mem) rename(oldName, newName string) error {
	fromDir, from, n, err := m.lookup(oldName)
	if err != nil {
		return err
	}
	toDir, to, target, err := m.lookup(newName)
	switch {
	case err != nil:
		return err
	case n == nil:
		return syscall.ENOENT
	case fromDir == nil || toDir == nil:
		return syscall.EBUSY
	case target != nil && target.isDir():
		return syscall.EEXIST // package os never replaces a directory
	case n == target:
		return nil
	case n.isDir() && strings.HasPrefix(path.Clean("/"+newName), path.Clean("/"+oldName)+"/"):
		return syscall.EINVAL
	case n.isDir() && target != nil:
		return syscall.ENOTDIR
	}
	m.apply(nameChange{from: place{fromDir, from}, to: place{toDir, to}, node: n})
	return nil
}

// apply applies a name change, and records it as unsynced.
func (m *Mem) apply(c nameChange) {
	m.clock++
	for _, p := range []place{c.from, c.to} {
		if p.dir == nil {
			continue
		}
		if !p.dir.ownsNames {
			p.dir.names, p.dir.ownsNames = maps.Clone(p.dir.names), true
		}
		if old := p.dir.names[p.name]; old != nil {
			old.links--
			old.ctime = m.clock
		}
		p.dir.mtime, p.dir.ctime = m.clock, m.clock
	}
	if c.to.dir != nil {
		c.node.links++
	}
	c.node.ctime = m.clock
	c.applyTo(func(dir *inode) map[string]*inode { return dir.names })
	m.pending = append(m.pending, c)
}
