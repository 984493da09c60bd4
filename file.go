package partd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/internal/boot"
	"github.com/go-partd/partd/internal/names"
	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/internal/vfs"
)

// FileOptions are the options of [OpenFile]. The zero value is useful.
type FileOptions struct {
	// Sync makes each operation survive a loss of power before it is
	// acknowledged. Without it, what was acknowledged survives the death of the
	// process, kill -9 included.
	Sync bool
	// MaxOpenFiles is the number of key files kept open between operations. 0
	// takes a quarter of the process's limit of open files, 8,192 at most.
	MaxOpenFiles int
	// Logger is told of what was repaired. Nil: nobody is.
	Logger *slog.Logger
}

// File is a store in a directory, one file per key, which several processes
// share, Python's partd among them.
//
// A key of letters, digits and "-_.() " has the file name that Python gives it;
// other keys have names with a percent sign in them, which Python never writes.
// A Python key that holds another character loses it in Python's file name, and
// a Python tuple becomes a path: those files are not the same keys here.
// Subdirectories, symbolic links and names that the store would not give are
// left alone and not listed.
//
// Processes exclude each other with flock on ".lock", which does not work on
// every network file system: keep the directory on a local disk. The lock is
// kept for up to 20 milliseconds after a write, so that a stream of small appends
// takes it once for many.
//
// An append first notes in the file "%undo" what it is about to add to which
// files. Whoever takes the lock after a process died half-way cuts that out
// again, and keeps what a Python process appended meanwhile. (One thing it
// can't tell apart: bytes that Python appended in that time, to a file that the
// dead process had not reached yet, if they are the very bytes that it was
// about to add.) Where the bytes found are neither, the operation fails with a
// [*CorruptError], and nothing is changed.
//
// Readers lock only while they note how long the values are. A value that
// Python replaces (iset) while it is read may be seen in part.
type File struct {
	dir     string
	fs      vfs.FS
	scheme  names.Scheme
	sync    bool
	log     *slog.Logger
	maxOpen int
	boot    uint64 // tells this run of the system from another
	hooks   fileHooks

	closed atomic.Bool
	temp   io.Closer     // removes the directory of a temporary store, nil if it is none
	listed atomic.Int64  // bytes that the names of the last listing took
	turn   chan struct{} // holds one token: whoever put it there has everything below, and is the only one to touch the lock
	orphan chan struct{} // holds one token while a goroutine whose caller went away has the turn

	lock     vfs.Lock
	lockInfo vfs.Info // of the locked file
	pin      vfs.File // keeps the lock file's inode from being used again
	held     lockState
	heldTill time.Time // until when the lock is kept between operations
	heldUsed time.Time // when it was used last
	keeper   *time.Timer

	cache    fileCache
	journal  fileJournal
	sessions fileSessions
	tag      *fileTag // of the operation under way, nil if it has none
	batch    fileBatch
	replay   bool  // an operation was left half-done and must be finished or undone first
	failed   error // why writes are refused, see ErrNeedsReopen
	dirty    dirtySet
}

var (
	_ Partd     = (*File)(nil)
	_ Setter    = (*File)(nil)
	_ Deleter   = (*File)(nil)
	_ Lister    = (*File)(nil)
	_ Opener    = (*File)(nil)
	_ Scanner   = (*File)(nil)
	_ Popper    = (*File)(nil)
	_ Syncer    = (*File)(nil)
	_ Statter   = (*File)(nil)
	_ io.Closer = (*File)(nil)
)

// fileHooks are what tests want otherwise than it is.
type fileHooks struct {
	keepLock   time.Duration // how long the lock is kept; negative: not at all; 0: the usual time
	boot       uint64        // another run of the system, if not 0
	noUndo     bool          // write no undo record
	noTag      bool          // apply an operation again where its tag says that it was applied
	sessions   int           // how many are remembered, if not 0
	mostDirty  int           // how many unsynced files are, if not 0
	afterWrite func()        // called after each write of data
	lockWait   func()        // called before the lock is waited for
}

// OpenFile opens the store in a directory, and makes the directory where it is
// missing. It finishes or undoes what a process left half-done. It refuses a
// directory that is not empty and has no ".lock": that is no store, and Drop
// would remove what is in it. Several processes, and one several times, may have
// a directory open. One that may only be read, or is on a read-only file system,
// can be, unless something is to be finished or undone. A nil opts is the zero
// value.
func OpenFile(dir string, opts *FileOptions) (*File, error) {
	return openFile(vfs.OS{}, dir, opts, fileHooks{})
}

// OpenTemp opens a store in a new directory of its own below dir, "" meaning
// [os.TempDir], for what is not needed once this process ends. Close removes the
// directory. One whose process died is removed by whoever makes the next
// temporary store, sort or group in the same place.
func OpenTemp(dir string) (*File, error) {
	path, temp, err := tempdir.Own(dir)
	if err != nil {
		return nil, &Error{Op: "open", Path: dir, Err: err}
	}
	f, err := OpenFile(path, nil)
	if err != nil {
		return nil, errors.Join(err, temp.Close())
	}
	f.temp = temp
	return f, nil
}

func openFile(fsys vfs.FS, dir string, opts *FileOptions, hooks fileHooks) (*File, error) {
	fail := func(err error) (*File, error) { return nil, &Error{Op: "open", Path: dir, Err: err} }
	if opts == nil {
		opts = &FileOptions{}
	}
	if opts.MaxOpenFiles < 0 {
		return fail(fmt.Errorf("MaxOpenFiles is %d: give a number above 0, or 0 for the usual one", opts.MaxOpenFiles))
	}
	if dir == "" {
		return fail(errors.New("the name of the directory is empty"))
	}
	abs, err := filepath.Abs(dir) // a later chdir does no harm
	if err != nil {
		return fail(err)
	}
	f := &File{
		dir: abs, fs: fsys, sync: opts.Sync, log: opts.Logger, maxOpen: opts.MaxOpenFiles,
		boot: boot.ID(), hooks: hooks,
		turn: make(chan struct{}, 1), orphan: make(chan struct{}, 1),
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	if f.maxOpen == 0 {
		f.maxOpen = defaultOpenFiles()
	}
	if hooks.boot != 0 {
		f.boot = hooks.boot
	}
	f.cache.init()
	f.dirty.most = cmp.Or(hooks.mostDirty, mostDirty)
	f.dirty.parents = []string{filepath.Dir(abs)} // whoever made the directory may not have synced it
	f.keeper = time.AfterFunc(time.Hour, f.tick)
	f.keeper.Stop()
	f.lock = fsys.NewLock(f.path(names.Lock))
	if err := f.prepareDir(); err != nil {
		return fail(err)
	}
	if err := f.begin(context.Background(), true); err != nil {
		return fail(err)
	}
	err = f.openLocked()
	f.end()
	if err != nil {
		return fail(errors.Join(err, f.Close()))
	}
	return f, nil
}

// openLocked is the part of opening that wants the lock.
func (f *File) openLocked() error {
	folded, err := f.fs.Info(f.path(".LOCK"))
	switch {
	case err == nil:
		f.scheme.FoldsCase = folded.SameFile(f.lockInfo)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := f.fs.Remove(f.path(names.Temp)); err != nil && !errors.Is(err, fs.ErrNotExist) && !mayNotWrite(err) {
		return err
	}
	return nil
}

// Close lets go of the directory and of every open file. Every later operation
// fails with an error that wraps [ErrClosed]; readers that Open returned go on.
func (f *File) Close() error {
	if f.closed.Swap(true) {
		return nil
	}
	var err error
	select {
	case f.turn <- struct{}{}:
		err = f.letGo()
		<-f.turn
	case <-f.orphan: // whoever waits for the lock there lets go of everything
	}
	if f.temp != nil {
		err = errors.Join(err, f.temp.Close())
	}
	if err != nil {
		return &Error{Op: "close", Path: f.dir, Err: err}
	}
	return nil
}

// letGo closes everything. It is called with the turn, maybe several times.
func (f *File) letGo() error {
	err := errors.Join(f.cache.closeAll(), f.journal.close(), f.sessions.close(), f.dropLock())
	if f.pin != nil {
		err = errors.Join(err, f.pin.Close())
		f.pin = nil
	}
	f.keeper.Stop()
	return err
}

// path returns the path of a file in the directory.
func (f *File) path(name string) string { return f.dir + string(filepath.Separator) + name }

// fail returns the error of an operation on no key in particular.
func (f *File) fail(op string, err error) error { return &Error{Op: op, Path: f.dir, Err: err} }

// failKey returns the error of an operation on a key.
func (f *File) failKey(op, key string, err error) error {
	return &Error{Op: op, Key: key, HasKey: true, Path: f.path(f.scheme.Name(key)), Err: err}
}

// refuse makes all later writes fail.
func (f *File) refuse(err error) {
	if f.failed == nil {
		f.failed = err
		f.log.Error("partd: writes are refused until the store is opened again", "dir", f.dir, "err", err)
	}
}

// writable tells whether writes are refused.
func (f *File) writable() error {
	if f.failed != nil {
		return fmt.Errorf("%w: %w", ErrNeedsReopen, f.failed)
	}
	return nil
}

// unknown wraps ErrUnknownOutcome and the cause.
func unknown(err error) error { return fmt.Errorf("%w: %w", ErrUnknownOutcome, err) }

// defaultOpenFiles leaves room for other stores, sockets, and spill files.
func defaultOpenFiles() int {
	const most, least = 8192, 16
	return max(least, min(most, vfs.OpenFileLimit()/4))
}
