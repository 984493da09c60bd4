package partd

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/go-partd/partd/internal/names"
)

// dirtySet remembers what was written and not synced, of files that are no
// longer open.
type dirtySet struct {
	paths   map[string]struct{}
	most    int      // how many are remembered
	all     bool     // too many to remember
	parents []string // directories in which directories may have been made
}

const mostDirty = 1 << 16

func (d *dirtySet) add(path string) {
	if d.all {
		return
	}
	if len(d.paths) >= d.most {
		d.all, d.paths = true, nil
		return
	}
	if d.paths == nil {
		d.paths = make(map[string]struct{})
	}
	d.paths[path] = struct{}{}
}

// Sync returns once all that was acknowledged to this store before the call
// survives a loss of power. What other processes wrote is theirs to sync.
func (f *File) Sync(ctx context.Context) error {
	if err := f.begin(ctx, true); err != nil {
		return f.fail("sync", err)
	}
	defer f.end()
	if err := f.writable(); err != nil {
		return f.fail("sync", err)
	}
	if f.sync {
		return nil // each operation was synced
	}
	if err := f.syncAll(ctx); err != nil {
		if !errors.Is(err, context.Cause(ctx)) {
			f.refuse(err)
			err = unknown(err)
		}
		return f.fail("sync", err)
	}
	return nil
}

func (f *File) syncAll(ctx context.Context) error {
	if f.dirty.all {
		list, err := f.listFiles()
		if err != nil {
			return err
		}
		for i := range list.len() {
			if err := checkNow(ctx, i); err != nil {
				return err
			}
			name := list.name(i)
			if err := f.syncPath(f.path(name)); err != nil {
				return err
			}
			if keyName, isLong := names.KeyFile(name); isLong {
				if err := f.syncPath(f.path(keyName)); err != nil {
					return err
				}
			}
		}
		for _, k := range f.cache.ring {
			k.dirty = false
		}
		f.dirty.all = false
	}
	for _, k := range f.cache.ring {
		if !k.dirty {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := k.file.Sync(); err != nil {
			return err
		}
		// A process that undid what another had begun may have put a copy, which
		// it did not sync, into its place.
		info, err := f.fs.Info(k.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && !info.SameFile(k.info) {
			f.dirty.add(k.path)
		}
		k.dirty = false
	}
	for path := range f.dirty.paths {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := f.syncPath(path); err != nil {
			return err
		}
		delete(f.dirty.paths, path)
	}
	// An old record must not come back when the power fails.
	if f.journal.file != nil {
		if err := f.journal.file.Sync(); err != nil {
			return err
		}
	}
	return f.syncDirs()
}

// syncDirs makes the names in the directory, and its own name, survive.
func (f *File) syncDirs() error {
	if err := f.fs.SyncDir(f.dir); err != nil {
		return err
	}
	for len(f.dirty.parents) > 0 {
		if err := f.fs.SyncDir(f.dirty.parents[0]); err != nil {
			return err
		}
		f.dirty.parents = f.dirty.parents[1:]
	}
	return nil
}

// syncPath syncs a file that may not be open, or may be gone.
func (f *File) syncPath(path string) error {
	file, err := f.openRetry(path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
