// Package filedir is a store in a directory, one file per key: what partd.File
// does. It knows keys and bytes; package partd checks their lengths, and gives
// its errors a form.
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

	"github.com/go-partd/partd/internal/filedir/boot"
	"github.com/go-partd/partd/internal/names"
	"github.com/go-partd/partd/internal/storeerror"
	"github.com/go-partd/partd/internal/vfs"
)

// Options are the options of [Open].
type Options struct {
	Sync         bool                                             // each operation survives a loss of power
	MaxOpenFiles int                                              // kept open between operations; 0: the usual number
	Logger       *slog.Logger                                     // nil: none
	Corrupt      func(path string, offset int64, err error) error // makes the error for a damaged file
	Hooks        Hooks
}

// Hooks are what tests want otherwise than it is.
type Hooks struct {
	KeepLock   time.Duration // how long the lock is kept; negative: not at all; 0: the usual time
	Boot       uint64        // another run of the system, if not 0
	NoUndo     bool          // write no undo record
	NoTag      bool          // apply an operation again where its tag says that it was applied
	Sessions   int           // how many are remembered, if not 0
	MaxDirty   int           // how many unsynced files are, if not 0
	AfterWrite func()        // called after each write of data
}

// Dir is an open directory.
//
// There are two locks, taken in this order: turn, among the goroutines that have
// this Dir, and then lock, among processes. No other lock is taken with them.
type Dir struct {
	Hooks Hooks

	dir     string
	fs      vfs.FS
	scheme  names.Scheme
	sync    bool
	log     *slog.Logger
	corrupt func(path string, offset int64, err error) error
	maxOpen int
	boot    uint64 // tells this run of the system from another

	closed atomic.Bool
	listed atomic.Int64  // bytes that the names of the last listing took
	turn   chan struct{} // holds one token: whoever put it there has everything below, and is the only one to touch lock
	orphan chan struct{} // holds one token while a goroutine whose caller went away has the turn

	lock     vfs.Lock // taken with the turn, and kept between turns: see keepLock
	lockInfo vfs.Info // of the locked file
	pin      vfs.File // keeps the lock file's inode from being used again
	held     lockState
	heldTill time.Time // until when the lock is kept between operations
	heldUsed time.Time // when it was used last
	keeper   *time.Timer

	cache    cache
	journal  journal
	sessions sessionFile
	tag      *sessionTag // of the operation under way, nil if it has none
	batch    batch
	replay   bool  // an operation was left half-done and must be finished or undone first
	failed   error // why writes are refused, see ErrNeedsReopen
	dirty    dirtySet
	subdirs  map[string]struct{} // in which names changed that were not synced
}

// KeyError is the error of an operation on one of its keys.
type KeyError struct {
	Key, Path string
	Err       error
}

func (e *KeyError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *KeyError) Unwrap() error { return e.Err }

// Open opens the store in a directory, and makes the directory where it is missing.
func Open(fsys vfs.FS, dir string, opts Options) (*Dir, error) {
	if opts.MaxOpenFiles < 0 {
		return nil, fmt.Errorf("MaxOpenFiles is %d: give a number above 0, or 0 for the default", opts.MaxOpenFiles)
	}
	if dir == "" {
		return nil, errors.New("the name of the directory is empty")
	}
	abs, err := filepath.Abs(dir) // a later chdir does no harm
	if err != nil {
		return nil, err
	}
	d := &Dir{
		Hooks: opts.Hooks,
		dir:   abs, fs: fsys, sync: opts.Sync, log: opts.Logger, corrupt: opts.Corrupt,
		maxOpen: cmp.Or(opts.MaxOpenFiles, max(16, min(8192, vfs.OpenFileLimit()/4))), // the rest is for other stores, sockets and spill files
		boot:    cmp.Or(opts.Hooks.Boot, boot.ID()),
		turn:    make(chan struct{}, 1), orphan: make(chan struct{}, 1),
	}
	d.log = cmp.Or(d.log, slog.New(slog.DiscardHandler))
	d.cache.byKey = make(map[string]*keyFile)
	d.dirty.limit = cmp.Or(opts.Hooks.MaxDirty, maxDirty)
	d.dirty.parents = []string{filepath.Dir(abs)} // whoever made the directory may not have synced it
	d.keeper = time.AfterFunc(time.Hour, d.tick)
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

// openLocked is the part of opening that wants the lock.
func (d *Dir) openLocked() error {
	folded, err := d.fs.Info(d.path(".LOCK"))
	switch {
	case err == nil:
		d.scheme.FoldsCase = folded.SameFile(d.lockInfo)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := d.removeFile(names.Temp); err != nil && !mayNotWrite(err) {
		return err
	}
	return nil
}

// Close lets go of the directory and of every open file, those of readers
// excepted.
func (d *Dir) Close() error {
	if d == nil || d.closed.Swap(true) {
		return nil
	}
	select {
	case d.turn <- struct{}{}:
		err := d.closeAll()
		<-d.turn
		return err
	case <-d.orphan: // whoever waits for the lock there closes everything
		return nil
	}
}

// closeAll is called with the turn, maybe several times.
func (d *Dir) closeAll() error {
	d.keeper.Stop()
	return errors.Join(d.closeKept(), closeOnce(&d.journal.file), closeOnce(&d.sessions.file),
		d.dropLock(), closeOnce(&d.pin))
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

// KeyError says which key an error is about; nil stays nil.
func (d *Dir) KeyError(key string, err error) error {
	if err == nil || d == nil {
		return err
	}
	name, _ := d.nameOf(key) // or the name that it has in any case
	return &KeyError{Key: key, Path: d.path(name), Err: err}
}

// Tx is an operation that changes the store, see [Dir.Write].
type Tx struct{ *Dir }

// Write does what changes files, with the lock and unless writes are refused.
func (d *Dir) Write(ctx context.Context, do func(Tx) error) error {
	if err := d.begin(ctx, true); err != nil {
		return err
	}
	defer d.end()
	if d.failed != nil {
		return fmt.Errorf("%w: %w", storeerror.ErrNeedsReopen, d.failed)
	}
	return do(Tx{d})
}

// refuse makes all later writes fail after an error, which it returns.
func (d *Dir) refuse(err error) error {
	if err != nil && d.failed == nil {
		d.failed = err
		d.log.Error("partd: writes are refused until the store is opened again", "dir", d.dir, "err", err)
	}
	return err
}

// warn logs what failed and has no effect on the operation under way.
func (d *Dir) warn(what string, err error) {
	if err != nil {
		d.log.Warn("partd: "+what, "dir", d.dir, "err", err)
	}
}

func unknown(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", storeerror.ErrUnknownOutcome, err)
}
