package filedir

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/disk/names"
)

// dirtySet contains closed files with unsynced data.
type dirtySet struct {
	paths      map[string]struct{}
	limit      int
	overflowed bool     // there were more paths than limit, so every file may be dirty
	parents    []string // directories that may contain unsynced names of new subdirectories
}

const maxDirty = 1 << 16

func (s *dirtySet) add(path string) {
	if s.overflowed {
		return
	}
	if len(s.paths) >= s.limit {
		s.overflowed, s.paths = true, nil
		return
	}
	if s.paths == nil {
		s.paths = make(map[string]struct{})
	}
	s.paths[path] = struct{}{}
}

// Sync waits until all completed operations of this Dir are durable. It does not cover other
// processes' writes.
func (d Tx) Sync(ctx context.Context) error {
	if d.sync {
		return nil // each operation synced its own changes
	}
	err := d.syncAll(ctx)
	if err == nil || errors.Is(err, canceled.Err(ctx)) {
		return err
	}
	return unknownOutcome(d.refuseWrites(err))
}

func (d *Dir) syncAll(ctx context.Context) error {
	if d.dirty.overflowed {
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
		d.dirty.overflowed = false
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
		// Another process that undid an append may have replaced the file with an unsynced copy.
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
	// Sync the journal too. Otherwise, a cleared record could reappear after a power loss, and be
	// replayed.
	if d.journal.file != nil {
		if err := d.journal.file.Sync(); err != nil {
			return err
		}
	}
	return d.syncDirs()
}

// syncDirs makes the names in the directory durable, and the directory's own name.
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
