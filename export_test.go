package partd

import (
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// OpenFileOn opens a File in fileMemDir on fsys. boot replaces the system's boot ID.
func OpenFileOn(fsys vfs.FS, opts *FileOptions, boot uint64) (*File, error) {
	return openFile(fsys, fileMemDir, opts, filedir.Hooks{KeepLock: -1, Boot: boot})
}

// ErrInDoubt is the error for a key of a Buffer whose state in the slow store is unknown.
var ErrInDoubt = errInDoubt
