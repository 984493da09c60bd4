package partd

import (
	"github.com/go-partd/partd/internal/disk/filedir"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// OpenFileOn opens a File in the directory /store of fsys.
func OpenFileOn(fsys vfs.FS) (*File, error) {
	return openFile(fsys, "/store", nil, filedir.Hooks{KeepLock: -1, Boot: 1})
}
