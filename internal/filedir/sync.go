package filedir

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/names"
)

// dirtySet remembers files with unsynced data that are no longer open.
type dirtySet struct {
	paths   map[string]struct{}
	limit   int      // maximum number of paths
	all     bool     // the limit was exceeded: every file may be dirty
	parents []string // directories with possibly new subdirectories
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

// Sync returns once everything that this store acknowledged before the call would survive a
// loss of power. It does not cover other processes' writes.
func (d Tx) Sync(ctx context.Context) error {
	if d.sync {
		return nil // each operation was synced
	}
	err := d.syncAll(ctx)
	if err == nil || errors.Is(err, canceled.Err(ctx)) {
		return err
	}
	return unknownOutcome(d.refuse(err))
}

func (d *Dir) syncAll(ctx context.Context) error {
	if d.dirty.all {
		list, err := d.listFiles(false, nil)
		if err != nil {
			return err
		}
		for i := range list.len() {
			if err := checkContext(ctx, i); err != nil {
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
		// Another process that undid an append may have replaced the file by a copy
		// without syncing it.
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
	// A loss of power must not restore an old record.
	if d.journal.file != nil {
		if err := d.journal.file.Sync(); err != nil {
			return err
		}
	}
	return d.syncDirs()
}

// syncDirs makes the directory's entries and its own name durable.
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

// syncPath syncs a file that may be closed or removed.
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
