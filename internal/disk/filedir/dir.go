// Package filedir implements partd.File, a store in a directory with one file per key. It does not
// check the lengths of keys and values: package partd does.
// docs/dev/invariants.md lists what must hold (F1 to F8).
package filedir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// Options are the options of [Open].
type Options struct {
	Sync         bool                                             // make each operation survive a power loss
	MaxOpenFiles int                                              // maximum number of files that stay open between operations; 0 means the default
	Logger       *slog.Logger                                     // nil means no logging
	Corrupt      func(path string, offset int64, err error) error // creates the error for a damaged file
	Hooks        Hooks
}

// Hooks change the store's behavior in tests.
type Hooks struct {
	KeepLock   time.Duration // replaces keepLock, unless 0; if negative, the lock is never kept
	Boot       uint64        // replaces the system's boot id, unless 0
	Sessions   int           // replaces the maximum number of sessions, unless 0
	MaxDirty   int           // replaces maxDirty, unless 0
	AfterWrite func()        // called after each write of data
}

// Dir is an open directory.
//
// A Dir has two locks: turn excludes other goroutines, and lock excludes other processes. Acquire
// turn before lock.
type Dir struct {
	Hooks Hooks

	dir     string
	fs      vfs.FS
	scheme  names.Scheme
	sync    bool
	log     *slog.Logger
	corrupt func(path string, offset int64, err error) error
	maxOpen int
	boot    uint64

	closed     atomic.Bool
	listMemory atomic.Int64  // memory for the names of the last listing, in bytes
	turn       chan struct{} // a mutex for the fields below: the goroutine that sent the value in the channel holds it
	orphan     chan struct{} // contains a value while a goroutine whose caller has given up holds turn: see waitLock
	lock       vfs.Lock      // a writer can keep the lock between operations: see keepLock
	lockInfo   vfs.Info
	pin        vfs.File // the lock file, kept open so that its inode is not reused
	mode       lockMode
	keepUntil  time.Time // when to release a kept lock
	lastUsed   time.Time
	keeper     *time.Timer // releases a kept lock

	cache       cache
	journal     journal
	sessions    sessionFile
	tag         *sessionTag // set if the current operation must not be applied twice
	batch       batch
	needsReplay bool  // the journal contains an operation that must be completed or undone first
	failure     error // the reason why writes are refused, or nil: see ErrNeedsReopen
	dirty       dirtySet
	subdirs     map[string]struct{} // subdirectories whose changed file names are not synced
}

// KeyError is an operation's error about one key.
type KeyError struct {
	Key, Path string
	Err       error
}

func (e *KeyError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *KeyError) Unwrap() error { return e.Err }

// Open opens the store in a directory, and creates the directory if it is missing.
func Open(fsys vfs.FS, dir string, opts Options) (*Dir, error) {
	if opts.MaxOpenFiles < 0 {
		return nil, fmt.Errorf("MaxOpenFiles is %d: it must be positive, or 0 for the default", opts.MaxOpenFiles)
	}
	if dir == "" {
		return nil, errors.New("the directory name is empty")
	}
	abs, err := filepath.Abs(dir) // the process may change its working directory
	if err != nil {
		return nil, err
	}
	d := &Dir{
		Hooks: opts.Hooks,
		dir:   abs, fs: fsys, sync: opts.Sync, log: opts.Logger, corrupt: opts.Corrupt,
		maxOpen: cmp.Or(opts.MaxOpenFiles, max(16, min(8192, vfs.OpenFileLimit()/4))), // the default leaves descriptors for other stores, sockets and spill files
		boot:    cmp.Or(opts.Hooks.Boot, bootID()),
		turn:    make(chan struct{}, 1), orphan: make(chan struct{}, 1),
	}
	d.log = cmp.Or(d.log, slog.New(slog.DiscardHandler))
	d.cache.byKey = make(map[string]*keyFile)
	d.dirty.limit = cmp.Or(opts.Hooks.MaxDirty, maxDirty)
	d.dirty.parents = []string{filepath.Dir(abs)} // the process that created dir may not have synced the parent
	d.keeper = time.AfterFunc(time.Hour, d.releaseIdleLock)
	d.keeper.Stop()
	d.lock = fsys.NewLock(d.path(names.Lock))
	if err := d.prepareDir(); err != nil {
		return nil, err
	}
	if err := d.begin(context.Background(), true); err != nil {
		return nil, err
	}
	err = d.openLocked()
	d.end()
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// openLocked does the work of Open that requires the lock.
func (d *Dir) openLocked() error {
	folded, err := d.fs.Info(d.path(".LOCK"))
	switch {
	case err == nil:
		d.scheme.FoldsCase = folded.SameFile(d.lockInfo)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := d.removeFile(names.Temp); err != nil && !isReadOnly(err) {
		return err
	}
	return nil
}

// Close closes the directory and every file, except files that readers still use.
func (d *Dir) Close() error {
	if d == nil || d.closed.Swap(true) {
		return nil
	}
	select {
	case d.turn <- struct{}{}:
		err := d.closeAll()
		<-d.turn
		return err
	case <-d.orphan: // a goroutine that waits for the lock holds turn, and will close everything
		return nil
	}
}

// closeAll closes all files and releases the lock. It may be called more than once. d.turn must be
// held.
func (d *Dir) closeAll() error {
	d.keeper.Stop()
	return errors.Join(d.closeCached(), closeOnce(&d.journal.file), closeOnce(&d.sessions.file),
		d.releaseLock(), closeOnce(&d.pin))
}

// Check returns an error if the store is closed.
func (d *Dir) Check() error {
	if d == nil {
		return storeerror.ErrNotOpened
	}
	if d.closed.Load() {
		return storeerror.ErrClosed
	}
	return nil
}

// Path returns the absolute path of the directory.
func (d *Dir) Path() string {
	if d == nil {
		return ""
	}
	return d.dir
}

func (d *Dir) path(name string) string { return d.dir + string(filepath.Separator) + name }

// KeyError adds a key and the path of its file to err. It returns nil if err is nil.
func (d *Dir) KeyError(key string, err error) error {
	if err == nil || d == nil {
		return err
	}
	name, _ := d.nameOf(key)
	return &KeyError{Key: key, Path: d.path(name), Err: err}
}

// Tx is a change in progress. It is valid only during [Dir.Write].
type Tx struct{ *Dir }

// Write calls do with the exclusive lock held. It returns an error if an earlier failure made
// further writes unsafe.
func (d *Dir) Write(ctx context.Context, do func(Tx) error) error {
	if err := d.begin(ctx, true); err != nil {
		return err
	}
	defer d.end()
	if d.failure != nil {
		return fmt.Errorf("%w: %w", storeerror.ErrNeedsReopen, d.failure)
	}
	return do(Tx{d})
}

// refuseWrites returns err. If err is not nil, all later writes fail.
func (d *Dir) refuseWrites(err error) error {
	if err != nil && d.failure == nil {
		d.failure = err
		d.log.Error("partd: writes are refused until the store is opened again", "dir", d.dir, "err", err)
	}
	return err
}

// warn logs an error that does not affect the current operation.
func (d *Dir) warn(message string, err error) {
	if err != nil {
		d.log.Warn("partd: "+message, "dir", d.dir, "err", err)
	}
}

func unknownOutcome(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", storeerror.ErrUnknownOutcome, err)
}
