// Package vfs is the file system as the stores see it: the real one, or one of
// package vfstest.
package vfs

import (
	"io"
	"io/fs"
)

// FS is a file system. Names are as in package os.
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
	// SyncDir makes the names in a directory survive a loss of power.
	SyncDir(name string) error
	// NewLock returns the lock of a file, which is made where it is missing once
	// the lock is taken.
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

// Puncher is a File of which parts can be given back to the disk.
type Puncher interface {
	// Punch makes a part read as zeros, and gives back what whole blocks it
	// has. The size stays.
	Punch(off, n int64) error
}

// Info is what the stores want to know of a file. It holds no pointers, so that
// asking costs no allocation.
type Info struct {
	Size  int64
	Disk  int64  // bytes that it takes on the disk
	Links uint64 // number of names; 0: removed while open
	Dev   uint64
	Ino   uint64
	Mode  fs.FileMode
	// MTime and CTime are when the content and the inode last changed, in
	// nanoseconds since 1970.
	MTime, CTime int64
}

// SameFile reports whether two Infos are of one file.
func (i Info) SameFile(o Info) bool { return i.Dev == o.Dev && i.Ino == o.Ino }

// Dir reads a directory piece by piece.
type Dir interface {
	// Next returns up to n entries, and io.EOF after the last.
	Next(n int) ([]fs.DirEntry, error)
	Close() error
}

// Lock is an advisory whole-file lock between processes, flock(2). It belongs
// to one holder: a process that wants it twice makes two Locks.
type Lock interface {
	// TryLock takes the lock if it is free.
	TryLock(exclusive bool) (bool, error)
	// Lock waits until it has the lock.
	Lock(exclusive bool) error
	Unlock() error
	// Info is of the locked file, which may no longer be the one that the
	// directory has under this name.
	Info() (Info, error)
}

// SpaceTeller is an FS that knows how much room there is.
type SpaceTeller interface {
	// Free returns the bytes that can still be written to the disk of a directory.
	Free(dir string) (int64, error)
}

// LinkTeller is an FS that knows symbolic links. One without has none.
type LinkTeller interface {
	// IsLink reports whether a name is itself a symbolic link.
	IsLink(name string) (bool, error)
}
