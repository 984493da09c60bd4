package vfs

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/gofrs/flock"
)

// OS is the real file system.
type OS struct{}

var (
	_ FS         = OS{}
	_ LinkTeller = OS{}
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
func (OS) NewLock(name string) Lock                     { return osLock{flock.New(name, flock.SetPermissions(0o666))} }

func (OS) Info(name string) (Info, error) {
	var st syscall.Stat_t
	if err := retry(func() error { return syscall.Stat(name, &st) }); err != nil {
		return Info{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return infoOf(&st), nil
}

func (OS) IsLink(name string) (bool, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return false, err
	}
	return info.Mode()&fs.ModeSymlink != 0, nil
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

type osFile struct{ *os.File }

func (f osFile) Info() (Info, error) {
	var st syscall.Stat_t
	if err := retry(func() error { return syscall.Fstat(int(f.Fd()), &st) }); err != nil {
		return Info{}, &fs.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return infoOf(&st), nil
}

type osDir struct{ *os.File }

func (d osDir) Next(n int) ([]fs.DirEntry, error) { return d.ReadDir(n) }

type osLock struct{ l *flock.Flock }

func (l osLock) TryLock(exclusive bool) (bool, error) {
	if exclusive {
		return l.l.TryLock()
	}
	return l.l.TryRLock()
}

func (l osLock) Lock(exclusive bool) error {
	if exclusive {
		return l.l.Lock()
	}
	return l.l.RLock()
}

func (l osLock) Unlock() error { return l.l.Unlock() }

func (l osLock) Info() (Info, error) {
	fi, err := l.l.Stat()
	if err != nil {
		return Info{}, err
	}
	return infoOf(fi.Sys().(*syscall.Stat_t)), nil
}

// retry calls f again while a signal interrupts it.
func retry(f func() error) error {
	for {
		if err := f(); err != syscall.EINTR {
			return err
		}
	}
}

// modeOf translates the type and the permission bits of a file.
func modeOf(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG:
	case syscall.S_IFDIR:
		m |= fs.ModeDir
	case syscall.S_IFLNK:
		m |= fs.ModeSymlink
	default:
		m |= fs.ModeIrregular
	}
	return m
}
