package partd

import (
	"github.com/go-partd/partd/internal/filedir"
	"github.com/go-partd/partd/internal/vfs"
)

// OpenFileOn opens a File in a directory of a file system, after the start of the
// machine with a number.
func OpenFileOn(fsys vfs.FS, opts *FileOptions, boot uint64) (*File, error) {
	return openFile(fsys, fileMemDir, opts, filedir.Hooks{KeepLock: -1, Boot: boot})
}

// ErrInDoubt is why a Buffer does not use a key.
var ErrInDoubt = errInDoubt
