package vfstest

import (
	"io/fs"

	"github.com/go-partd/partd/internal/vfs"
)

// Flip is the real file system with one fault: it flips a bit in the result of one ReadAt. It is
// not safe for concurrent use.
type Flip struct {
	vfs.OS
	Read  int // number of the ReadAt with the flipped bit; 0 means none
	Reads int // number of ReadAts so far
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

// ReadAt flips a bit in the middle of the result of the chosen read.
func (f flipFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if f.fs.Reads++; f.fs.Reads == f.fs.Read && n > 0 {
		p[n/2] ^= 4
	}
	return n, err
}
