package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Stores in directories do not work on Windows: they need flock(2), which Python's partd also uses,
// and must remove open files. Such a store fails when it acquires its lock.

// NoFollow does nothing on Windows.
const NoFollow = 0

// OpenFileLimit returns 0 because the limit is unknown.
func OpenFileLimit() int { return 0 }

func (OS) NewLock(name string) Lock { return noLock{name} }

func (OS) Info(name string) (Info, error) { return infoOf(os.Stat(name)) }

func (f osFile) Info() (Info, error) { return infoOf(f.Stat()) }

func infoOf(fi fs.FileInfo, err error) (Info, error) {
	if err != nil {
		return Info{}, err
	}
	return fileInfo(fi), nil
}

func fileInfo(fi fs.FileInfo) Info {
	return Info{Size: fi.Size(), Disk: fi.Size(), Links: 1, Mode: fi.Mode(), MTime: fi.ModTime().UnixNano()}
}

type noLock struct{ name string }

func (l noLock) unsupported() error {
	return fmt.Errorf("lock %s: stores in directories need flock, which Windows lacks: %w", l.name, errors.ErrUnsupported)
}

func (l noLock) TryLock(bool) (bool, error) { return false, l.unsupported() }
func (l noLock) Lock(bool) error            { return l.unsupported() }
func (l noLock) Unlock() error              { return l.unsupported() }
func (l noLock) Info() (Info, error)        { return Info{}, l.unsupported() }
