package vfs

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/go-partd/partd/internal/base/canceled"
)

// OS is the real file system.
type OS struct{}

var (
	_ FS          = OS{}
	_ LinkChecker = OS{}
)

func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (OS) Mkdir(name string, perm fs.FileMode) error    { return os.Mkdir(name, perm) }
func (OS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }
func (OS) Remove(name string) error                     { return os.Remove(name) }
func (OS) Rename(oldName, newName string) error         { return os.Rename(oldName, newName) }

func (OS) IsLink(name string) (bool, error) {
	info, err := os.Lstat(name)
	return err == nil && info.Mode()&fs.ModeSymlink != 0, err
}

func (OS) ReadDir(name string) (Dir, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return osDir{f}, nil
}

func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// OpenFile opens an existing file. If the file is a pipe, OpenFile waits until another process opens
// the other end, or until ctx ends.
func OpenFile(ctx context.Context, name string, flag int) (*os.File, error) {
	return canceled.Run(ctx, func() (*os.File, error) { return os.OpenFile(name, flag, 0) })
}

type osFile struct{ *os.File }

type osDir struct{ *os.File }

func (d osDir) Next(n int) ([]fs.DirEntry, error) { return d.ReadDir(n) }
