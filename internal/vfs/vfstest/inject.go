package vfstest

import (
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	"github.com/go-partd/partd/internal/vfs"
)

// Op is a kind of call to a file system.
type Op uint8

// The kinds of calls. One of a file's or a directory's methods has the kind of
// what it does, so that fstat is OpInfo and a write at an offset OpWrite.
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
	NumOps // how many kinds there are
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

// Changes reports whether a call of this kind can change what is on the disk.
func (o Op) Changes() bool {
	switch o {
	case OpOpen, OpMkdir, OpRemove, OpRename, OpSyncDir, OpWrite, OpSync, OpTruncate:
		return true
	}
	return false
}

// Short returns an error that makes a write put down the first half of its
// bytes before it fails with err. Other calls simply fail with err.
func Short(err error) error { return fmt.Errorf("%w (%w)", err, errShort) }

var errShort = errors.New("half of it was written")

// Fault fails one call, or all from one on. It is safe for concurrent use; set
// its fields before.
type Fault struct {
	At    int64                         // the call to fail, counted from 1; 0: none
	Err   error                         // what it fails with
	Short bool                          // a write puts down half of its bytes first
	Stays bool                          // all later calls fail as well: the process died here, or the disk stays full
	Only  func(op Op, name string) bool // the calls that are counted and can fail; nil: all
	calls atomic.Int64
}

// Check is the function that [Inject] wants.
func (f *Fault) Check(op Op, name string) error {
	if f.Only != nil && !f.Only(op, name) {
		return nil
	}
	n := f.calls.Add(1)
	if f.At == 0 || n < f.At || n > f.At && !f.Stays {
		return nil
	}
	if f.Short && n == f.At {
		return Short(f.Err)
	}
	return f.Err
}

// Calls returns the number of calls counted so far.
func (f *Fault) Calls() int64 { return f.calls.Load() }

// Hit reports whether the call to fail came.
func (f *Fault) Hit() bool { return f.At > 0 && f.calls.Load() >= f.At }

// Inject returns a file system that asks fault before each call, with the kind
// of the call and the name of the file (of a rename, the old name). An error
// that fault returns is that of the call, which is then not made; only Close
// and Unlock still let go of what they hold.
func Inject(fsys vfs.FS, fault func(op Op, name string) error) vfs.FS {
	return &injectFS{fsys, fault}
}

type injectFS struct {
	fs    vfs.FS
	fault func(op Op, name string) error
}

// check returns fault's error as the file system's own would look.
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
