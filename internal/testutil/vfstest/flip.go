package vfstest

import (
	"io/fs"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// Flip is the real file system, except that it flips a bit in the result of one ReadAt. It is not
// safe for concurrent use.
type Flip struct {
	vfs.OS
	Target int // number of the ReadAt call whose result is damaged, from 1; 0 means none
	Calls  int
}

type flipFile struct {
	vfs.File
	fs *Flip
}

// OpenFile opens a file whose ReadAt calls are counted.
func (f *Flip) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	file, err := f.OS.OpenFile(name, flag, perm)
	return flipFile{file, f}, err
}

func (f flipFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.fs.Calls++
	if f.fs.Calls == f.fs.Target && n > 0 {
		p[n/2] ^= 4
	}
	return n, err
}
