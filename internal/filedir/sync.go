package filedir

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/names"
)

// dirtySet remembers what was written and not synced, of files that are no
// longer open.
type dirtySet struct {
	paths   map[string]struct{}
	limit   int      // how many are remembered
	all     bool     // too many to remember
	parents []string // directories in which directories may have been made
}

const maxDirty = 1 << 16

func (s *dirtySet) add(path string) {
	if s.all {
		return
	}
	if len(s.paths) >= s.limit {
		s.all, s.paths = true, nil
		return
	}
	if s.paths == nil {
		s.paths = make(map[string]struct{})
	}
	s.paths[path] = struct{}{}
}

// Sync returns once all that was acknowledged to this store before the call
// survives a loss of power. What other processes wrote is theirs to sync.
func (d Tx) Sync(ctx context.Context) error {
	if d.sync {
		return nil // each operation was synced
	}
	err := d.syncAll(ctx)
	if err == nil || errors.Is(err, canceled.Err(ctx)) {
		return err
	}
	return unknown(d.refuse(err))
}

func (d *Dir) syncAll(ctx context.Context) error {
	if d.dirty.all {
		list, err := d.listFiles(false, nil)
		if err != nil {
			return err
		}
		for i := range list.len() {
			if err := checkNow(ctx, i); err != nil {
				return err
			}
			name := list.name(i)
			if err := d.syncPath(d.path(name)); err != nil {
				return err
			}
			if keyName, isLong := names.KeyFile(name); isLong {
				if err := d.syncPath(d.path(keyName)); err != nil {
					return err
				}
			}
		}
		for _, k := range d.cache.ring {
			k.dirty = false
		}
		d.dirty.all = false
	}
	for _, k := range d.cache.ring {
		if !k.dirty {
			continue
		}
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		if err := k.file.Sync(); err != nil {
			return err
		}
		// A process that undid what another had begun may have put a copy, which
		// it did not sync, into its place.
		info, err := d.fs.Info(k.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && !info.SameFile(k.info) {
			d.dirty.add(k.path)
		}
		k.dirty = false
	}
	for path := range d.dirty.paths {
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		if err := d.syncPath(path); err != nil {
			return err
		}
		delete(d.dirty.paths, path)
	}
	// An old record must not come back when the power fails.
	if d.journal.file != nil {
		if err := d.journal.file.Sync(); err != nil {
			return err
		}
	}
	return d.syncDirs()
}

// syncDirs makes the names in the directory, and its own name, survive.
func (d *Dir) syncDirs() error {
	if err := d.syncNames(); err != nil {
		return err
	}
	for len(d.dirty.parents) > 0 {
		if err := d.fs.SyncDir(d.dirty.parents[0]); err != nil {
			return err
		}
		d.dirty.parents = d.dirty.parents[1:]
	}
	return nil
}

// syncPath syncs a file that may not be open, or may be gone.
func (d *Dir) syncPath(path string) error {
	file, err := d.open(path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) || err != nil && d.isDir(path) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
