package vfstest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// Op is a kind of file system call.
type Op uint8

// The kinds of calls. Similar methods have the same kind: FS.Info and File.Info are OpInfo, and
// Write and WriteAt are OpWrite.
const (
	OpOpen Op = iota
	OpMkdir
	OpRemove
	OpRename
	OpInfo
	OpReadDir
	OpSyncDir
	OpLock
	OpUnlock
	OpRead
	OpWrite
	OpSync
	OpTruncate
	OpClose
	NumOps
)

var opNames = [NumOps]string{
	"open", "mkdir", "remove", "rename", "info", "readdir", "syncdir",
	"lock", "unlock", "read", "write", "sync", "truncate", "close",
}

func (o Op) String() string {
	if o < NumOps {
		return opNames[o]
	}
	return fmt.Sprintf("Op(%d)", uint8(o))
}

// Changes reports whether a call of this kind can change the disk.
func (o Op) Changes() bool {
	switch o {
	case OpOpen, OpMkdir, OpRemove, OpRename, OpSyncDir, OpWrite, OpSync, OpTruncate:
		return true
	}
	return false
}

// ShortWrite wraps err. If the function passed to [Inject] returns the wrapped error for a write,
// the write stores the first half of its bytes before it fails. For other calls, the wrapped error
// means the same as err.
func ShortWrite(err error) error { return fmt.Errorf("%w (%w)", err, errShort) }

var errShort = errors.New("only half of the bytes were written")

// Fault makes one call fail, and optionally all later calls. It is safe for concurrent use once its
// fields are set.
type Fault struct {
	Call       int64                         // number of the call that fails, from 1; 0 means none
	Err        error                         // the error of that call
	ShortWrite bool                          // if the call is a write, it stores half of its bytes
	Persists   bool                          // all later calls fail too, for example because the disk is full
	Match      func(op Op, name string) bool // selects the calls to count; nil means all
	calls      atomic.Int64
}

// Check counts a call and returns the call's error, or nil. Pass it to [Inject].
func (f *Fault) Check(op Op, name string) error {
	if f.Match != nil && !f.Match(op, name) {
		return nil
	}
	n := f.calls.Add(1)
	if f.Call == 0 || n < f.Call || n > f.Call && !f.Persists {
		return nil
	}
	if f.ShortWrite && n == f.Call {
		return ShortWrite(f.Err)
	}
	return f.Err
}

// Calls returns the number of calls counted so far.
func (f *Fault) Calls() int64 { return f.calls.Load() }

// Hit reports whether call number f.Call was made.
func (f *Fault) Hit() bool { return f.Call > 0 && f.calls.Load() >= f.Call }

// tryAll reports whether tests should try all faults, which takes long.
func tryAll() bool { return os.Getenv("PARTD_FAULTS") != "" }

// FaultStep returns the distance between the calls that a test makes fail: n or, if PARTD_FAULTS is set, 1.
func FaultStep(n int64) int64 {
	if tryAll() {
		return 1
	}
	return n
}

// EachFault calls try for the first call, for the one that comes step calls later, and so on, until try reports that
// the fault did not occur. try gets the number of the call and the error for it: one of errs, which differs from call to
// call and depends on shift. If PARTD_FAULTS is set, EachFault tries all of errs for each call.
func EachFault(step int64, errs []error, shift int, try func(call int64, err error) (hit bool)) {
	for call, hit := int64(1), true; hit; call += step {
		tried := errs
		if !tryAll() {
			tried = errs[(int(call)+shift)%len(errs):][:1]
		}
		for _, err := range tried {
			hit = try(call, err)
		}
	}
}

// Inject returns a file system that calls fault before each call, with the call's kind and the file
// name (for a rename, the old name). If fault returns an error, the call returns that error and
// does nothing, except that Close and Unlock still release their resources.
func Inject(fsys vfs.FS, fault func(op Op, name string) error) vfs.FS {
	return &injectFS{fsys, fault}
}

type injectFS struct {
	fs    vfs.FS
	fault func(op Op, name string) error
}

// check calls fault, and returns its error as an fs.PathError, like a real file system.
func (i *injectFS) check(op Op, name string) error {
	err := i.fault(op, name)
	if err == nil {
		return nil
	}
	return pathError(op.String(), name, err)
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

var _ interface {
	vfs.FS
	vfs.LinkChecker
} = (*injectFS)(nil)

func (i *injectFS) call(op Op, name string, call func() error) error {
	if err := i.check(op, name); err != nil {
		return err
	}
	return call()
}

func callValue[V any](i *injectFS, op Op, name string, call func() (V, error)) (v V, err error) {
	if err := i.check(op, name); err != nil {
		return v, err
	}
	return call()
}

func (i *injectFS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	return callValue(i, OpOpen, name, func() (vfs.File, error) {
		f, err := i.fs.OpenFile(name, flag, perm)
		if err != nil {
			return nil, err
		}
		return &injectFile{f, i}, nil
	})
}

func (i *injectFS) Mkdir(name string, perm fs.FileMode) error {
	return i.call(OpMkdir, name, func() error { return i.fs.Mkdir(name, perm) })
}

func (i *injectFS) MkdirAll(name string, perm fs.FileMode) error {
	return i.call(OpMkdir, name, func() error { return i.fs.MkdirAll(name, perm) })
}

func (i *injectFS) Remove(name string) error {
	return i.call(OpRemove, name, func() error { return i.fs.Remove(name) })
}

func (i *injectFS) Rename(oldName, newName string) error {
	return i.call(OpRename, oldName, func() error { return i.fs.Rename(oldName, newName) })
}

func (i *injectFS) Info(name string) (vfs.Info, error) {
	return callValue(i, OpInfo, name, func() (vfs.Info, error) { return i.fs.Info(name) })
}

// IsLink implements [vfs.LinkChecker].
func (i *injectFS) IsLink(name string) (bool, error) {
	return callValue(i, OpInfo, name, func() (bool, error) {
		if l, ok := i.fs.(vfs.LinkChecker); ok {
			return l.IsLink(name)
		}
		return false, nil
	})
}

func (i *injectFS) ReadDir(name string) (vfs.Dir, error) {
	return callValue(i, OpReadDir, name, func() (vfs.Dir, error) {
		d, err := i.fs.ReadDir(name)
		if err != nil {
			return nil, err
		}
		return &injectDir{d, i, name}, nil
	})
}

func (i *injectFS) SyncDir(name string) error {
	return i.call(OpSyncDir, name, func() error { return i.fs.SyncDir(name) })
}

func (i *injectFS) NewLock(name string) vfs.Lock { return &injectLock{i.fs.NewLock(name), i, name} }

type injectFile struct {
	file     vfs.File
	injector *injectFS
}

func (f *injectFile) Name() string { return f.file.Name() }

func (f *injectFile) ReadAt(p []byte, off int64) (int, error) {
	return callValue(f.injector, OpRead, f.file.Name(), func() (int, error) { return f.file.ReadAt(p, off) })
}

func (f *injectFile) Write(p []byte) (int, error) {
	return f.write(p, f.file.Write)
}

func (f *injectFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(p, func(p []byte) (int, error) { return f.file.WriteAt(p, off) })
}

func (f *injectFile) write(p []byte, write func(p []byte) (int, error)) (int, error) {
	fault := f.injector.check(OpWrite, f.file.Name())
	switch {
	case fault == nil:
		return write(p)
	case errors.Is(fault, errShort):
		n, err := write(p[:len(p)/2])
		return n, errors.Join(fault, err)
	default:
		return 0, fault
	}
}

func (f *injectFile) Sync() error {
	if err := f.injector.check(OpSync, f.file.Name()); err != nil {
		if m, ok := f.file.(*memFile); ok {
			m.failSync()
		}
		return err
	}
	return f.file.Sync()
}

func (f *injectFile) Truncate(size int64) error {
	return f.injector.call(OpTruncate, f.file.Name(), func() error { return f.file.Truncate(size) })
}

// Punch implements [vfs.Puncher].
func (f *injectFile) Punch(off, n int64) error {
	return f.injector.call(OpTruncate, f.file.Name(), func() error {
		if p, ok := f.file.(vfs.Puncher); ok {
			return p.Punch(off, n)
		}
		return pathError("fallocate", f.file.Name(), errors.ErrUnsupported)
	})
}

func (f *injectFile) Info() (vfs.Info, error) {
	return callValue(f.injector, OpInfo, f.file.Name(), f.file.Info)
}

func (f *injectFile) Close() error {
	return errors.Join(f.injector.check(OpClose, f.file.Name()), f.file.Close())
}

type injectDir struct {
	dir      vfs.Dir
	injector *injectFS
	name     string
}

func (d *injectDir) Next(n int) ([]fs.DirEntry, error) {
	return callValue(d.injector, OpReadDir, d.name, func() ([]fs.DirEntry, error) { return d.dir.Next(n) })
}

func (d *injectDir) Close() error {
	return errors.Join(d.injector.check(OpClose, d.name), d.dir.Close())
}

type injectLock struct {
	lock     vfs.Lock
	injector *injectFS
	name     string
}

func (l *injectLock) TryLock(exclusive bool) (bool, error) {
	return callValue(l.injector, OpLock, l.name, func() (bool, error) { return l.lock.TryLock(exclusive) })
}

func (l *injectLock) Lock(exclusive bool) error {
	return l.injector.call(OpLock, l.name, func() error { return l.lock.Lock(exclusive) })
}

func (l *injectLock) Unlock() error {
	return errors.Join(l.injector.check(OpUnlock, l.name), l.lock.Unlock())
}

func (l *injectLock) Info() (vfs.Info, error) {
	return callValue(l.injector, OpInfo, l.name, l.lock.Info)
}
