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

// Dir is an open directory.
//
// A Dir has two locks: turn excludes other goroutines, and lock excludes other processes. Acquire
// turn before lock. The goroutine that holds turn owns the fields from cache to batch.
type Dir struct {
	env
	closed     atomic.Bool
	listMemory atomic.Int64  // memory for the names of the last listing, in bytes
	turn       chan struct{} // a mutex: sending a value acquires it, and receiving the value releases it

	cache    cache
	tree     tree
	lock     dirLock
	staging  staging
	sessions sessionFile
	journal  journal
	batch    batch
}

// Options are the options for [Open].
type Options struct {
	Sync         bool                                             // make each operation survive a power loss
	MaxOpenFiles int                                              // maximum number of files that stay open between operations; 0 means the default
	Logger       *slog.Logger                                     // nil means no logging
	Corrupt      func(path string, offset int64, err error) error // creates the error for a damaged file
	Hooks        Hooks
}

// KeyError is an operation's error about one key.
type KeyError struct {
	Key, Path string
	Err       error
}

func (e *KeyError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *KeyError) Unwrap() error { return e.Err }

// Open opens the store in a directory, creating the directory if it is missing.
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
		env: env{
			Hooks: opts.Hooks,
			dir:   abs, fs: fsys, sync: opts.Sync, corrupt: opts.Corrupt,
			log:  cmp.Or(opts.Logger, slog.New(slog.DiscardHandler)),
			boot: cmp.Or(opts.Hooks.Boot, bootID()),
		},
		turn: make(chan struct{}, 1),
	}
	d.connect()
	// The default leaves descriptors for other stores, sockets and spill files.
	d.cache.maxOpen = cmp.Or(opts.MaxOpenFiles, max(16, min(8192, vfs.OpenFileLimit()/4)))
	d.cache.dirty.limit = cmp.Or(opts.Hooks.MaxDirty, maxDirty)
	d.tree.parents = []string{filepath.Dir(abs)} // the process that created dir may not have synced the parent
	d.lock.keeper = time.AfterFunc(time.Hour, d.releaseIdleLock)
	d.lock.keeper.Stop()
	if err := d.tree.prepare(false); err != nil {
		return nil, err
	}
	if err := d.begin(context.Background(), true); err != nil {
		return nil, err
	}
	err = d.finishOpen()
	d.end()
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// connect creates the parts and gives each one pointers to the other parts that it uses.
func (d *Dir) connect() {
	e := &d.env
	d.cache = cache{env: e, byKey: make(map[string]*keyFile)}
	d.tree = tree{env: e, cache: &d.cache}
	d.lock = dirLock{env: e, tree: &d.tree, passTurn: d.passTurn, orphan: make(chan struct{}, 1)}
	d.lock.file = d.fs.NewLock(d.path(names.Lock))
	d.staging = staging{env: e, tree: &d.tree, lock: &d.lock}
	d.sessions = sessionFile{env: e, tree: &d.tree}
	d.journal = journal{env: e, tree: &d.tree}
	d.batch = batch{env: e, cache: &d.cache, tree: &d.tree, staging: &d.staging}
}

// finishOpen does the work of Open that requires the lock.
func (d *Dir) finishOpen() error {
	upperInfo, err := d.fs.Info(d.path(".LOCK")) // finds the lock file if the file system ignores case
	switch {
	case err == nil:
		d.tree.scheme.FoldsCase = upperInfo.SameFile(d.lock.info)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := d.tree.removeFile(names.Temp); err != nil && !isReadOnly(err) {
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
	case <-d.lock.orphan: // a goroutine that waits for the lock holds turn and will close everything
		return nil
	}
}

// closeAll closes all files and releases the lock. It may be called more than once. d.turn must be
// held.
func (d *Dir) closeAll() error {
	d.lock.keeper.Stop()
	return errors.Join(d.cache.closeAll(), closeOnce(&d.journal.file), closeOnce(&d.sessions.file),
		d.lock.release(), closeOnce(&d.lock.pin))
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

// KeyError adds a key and the path of its file to err. It returns nil if err is nil.
func (d *Dir) KeyError(key string, err error) error {
	if err == nil || d == nil {
		return err
	}
	name, _ := d.tree.nameOf(key)
	return &KeyError{Key: key, Path: d.path(name), Err: err}
}

// Tx is a change in progress. It is valid only during [Dir.Write].
type Tx struct{ *Dir }

// Write calls f with the exclusive lock held. It returns an error if an earlier failure made further
// writes unsafe.
func (d *Dir) Write(ctx context.Context, f func(Tx) error) error {
	if err := d.begin(ctx, true); err != nil {
		return err
	}
	defer d.end()
	if d.failure != nil {
		return fmt.Errorf("%w: %w", storeerror.ErrNeedsReopen, d.failure)
	}
	return f(Tx{d})
}
