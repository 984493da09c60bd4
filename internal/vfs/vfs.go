// Package vfs is the interface of the stores to a file system: the real one, or one of package
// vfstest.
package vfs

import (
	"io"
	"io/fs"
)

// FS is a file system. Names follow the rules of package os.
type FS interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Mkdir(name string, perm fs.FileMode) error
	MkdirAll(name string, perm fs.FileMode) error
	Remove(name string) error
	Rename(oldName, newName string) error
	// Info follows symbolic links.
	Info(name string) (Info, error)
	// ReadDir returns a reader of a directory's entries.
	ReadDir(name string) (Dir, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// NewLock returns the lock of a file. Taking the lock creates the file if it is
	// missing.
	NewLock(name string) Lock
}

// File is an open file.
type File interface {
	io.Writer
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
	Info() (Info, error)
	Name() string
}

// Puncher is a File whose parts can be returned to the disk.
type Puncher interface {
	// Punch makes a range read as zeros and frees its whole blocks. The file's size
	// does not change.
	Punch(off, n int64) error
}

// Info describes a file. It has no pointers, so that returning it does not allocate.
type Info struct {
	Size  int64
	Disk  int64  // bytes used on the disk
	Links uint64 // number of names; 0 if removed while open
	Dev   uint64
	Ino   uint64
	Mode  fs.FileMode
	// MTime and CTime are the times of the last change of the content and of the inode,
	// in nanoseconds since 1970.
	MTime, CTime int64
}

// SameFile reports whether two Infos describe the same file.
func (i Info) SameFile(o Info) bool { return i.Dev == o.Dev && i.Ino == o.Ino }

// Dir reads a directory in pieces.
type Dir interface {
	// Next returns up to n entries, and io.EOF after the last.
	Next(n int) ([]fs.DirEntry, error)
	Close() error
}

// Lock is an advisory whole-file lock between processes, flock(2). It has one holder: a process
// that needs the lock twice creates two Locks.
type Lock interface {
	// TryLock takes the lock if it is free.
	TryLock(exclusive bool) (bool, error)
	// Lock waits until it has the lock.
	Lock(exclusive bool) error
	Unlock() error
	// Info describes the locked file, which may no longer be the file with this name.
	Info() (Info, error)
}

// SpaceReporter is an FS that knows its free space.
type SpaceReporter interface {
	// Free returns the bytes that can still be written to a directory's disk.
	Free(dir string) (int64, error)
}

// LinkChecker is an FS with symbolic links. An FS without this interface has no links.
type LinkChecker interface {
	// IsLink reports whether a name is itself a symbolic link.
	IsLink(name string) (bool, error)
}
