package vfstest

import (
	"io/fs"
	"os"
	"syscall"

	"github.com/go-partd/partd/internal/disk/vfs"
)

type lockState struct {
	writer  bool
	readers int
}

// NewLock returns a lock for a file. Like flock(2), it locks the file, not the name: if the file is
// removed, a new file with the same name has another lock.
func (m *Mem) NewLock(name string) vfs.Lock { return &memLock{mem: m, name: name} }

// memLock is a lock. Mem.mu guards its fields.
type memLock struct {
	mem       *Mem
	name      string
	node      *inode // nil if not held
	exclusive bool
}

func (l *memLock) TryLock(exclusive bool) (bool, error) { return l.lock(exclusive, false) }

func (l *memLock) Lock(exclusive bool) error {
	_, err := l.lock(exclusive, true)
	return err
}

func (l *memLock) lock(exclusive, wait bool) (bool, error) {
	m := l.mem
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.node != nil && l.exclusive == exclusive {
		return true, nil
	}
	node := l.node
	if node == nil {
		var err error
		if node, err = m.openInode(l.name, os.O_CREATE|os.O_RDONLY, 0o666); err != nil {
			return false, &fs.PathError{Op: "open", Path: l.name, Err: err}
		}
		m.open++
	} else {
		l.release() // like flock(2), release the lock before changing its mode
	}
	for node.locks.writer || exclusive && node.locks.readers > 0 {
		if !wait {
			m.open--
			l.node = nil
			return false, nil
		}
		m.unlocked.Wait()
	}
	l.node, l.exclusive = node, exclusive
	if exclusive {
		node.locks.writer = true
	} else {
		node.locks.readers++
	}
	return true, nil
}

// release releases the lock but keeps the file open.
func (l *memLock) release() {
	if l.exclusive {
		l.node.locks.writer = false
	} else {
		l.node.locks.readers--
	}
	l.mem.unlocked.Broadcast()
}

func (l *memLock) Unlock() error {
	l.mem.mu.Lock()
	defer l.mem.mu.Unlock()
	if l.node != nil {
		l.release()
		l.node = nil
		l.mem.open--
	}
	return nil
}

func (l *memLock) Info() (vfs.Info, error) {
	l.mem.mu.RLock()
	defer l.mem.mu.RUnlock()
	if l.node == nil {
		return vfs.Info{}, &fs.PathError{Op: "stat", Path: l.name, Err: syscall.EBADF}
	}
	return l.node.info(), nil
}
