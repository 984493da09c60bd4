package vfstest

import (
	"io/fs"

	"github.com/go-partd/partd/internal/vfs"
)

// Flip is the file system of the machine, on which a bit of what the At-th read
// at an offset returns is wrong. It is for one goroutine.
type Flip struct {
	vfs.OS
	At    int // 0: none
	Reads int // so far
}

type flipFile struct {
	vfs.File
	fs *Flip
}

// OpenFile opens a file whose reads are counted.
func (f *Flip) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	file, err := f.OS.OpenFile(name, flag, perm)
	return flipFile{file, f}, err
}

// ReadAt flips a bit in the middle of what the chosen read returns.
func (f flipFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if f.fs.Reads++; f.fs.Reads == f.fs.At && n > 0 {
		p[n/2] ^= 4
	}
	return n, err
}
