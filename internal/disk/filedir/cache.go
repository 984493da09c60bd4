package filedir

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/disk/vfs"
)

// keyFile is a key's file, which can stay open between appends.
type keyFile struct {
	key          string
	path         string
	file         vfs.File // nil if not open
	info         vfs.Info // info at the time of opening, to detect that the file was replaced
	size         int64    // length; valid while epoch equals cache.epoch
	epoch        uint64   // cache.epoch when size was read
	recentlyUsed bool     // used since cache.hand last passed this file
	slot         int      // index in cache.ring, if open
	dirty        bool     // has unsynced data

	batch       uint64 // number of the batch that set the fields below
	first, last int    // indexes of the key's first and last entries
	addSize     int64  // number of bytes that the batch appends
	inline      int    // offset of the added bytes in the undo record; -1 if the record contains only checksums
	isNew       bool   // the file did not exist before the batch
	created     bool   // the batch has already created the file
}

// cache holds the open files and evicts them with the clock algorithm. It also knows which closed
// files have unsynced data.
type cache struct {
	*env
	maxOpen   int
	byKey     map[string]*keyFile
	ring      []*keyFile
	hand      int    // index in ring of the next candidate for eviction
	epoch     uint64 // increases when the lock is taken, because other processes may have changed files
	batch     uint64 // number of the current batch, whose files stay open
	fullBatch uint64 // number of the last batch that needed all open files, so that none could be closed
	dirty     dirtySet
}

// dirtySet contains closed files with unsynced data.
type dirtySet struct {
	paths      map[string]struct{}
	limit      int
	overflowed bool // there were more paths than limit, so every file may be dirty
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

// clear empties the set after all files were synced or removed.
func (s *dirtySet) clear() { s.paths, s.overflowed = nil, false }

func (c *cache) add(k *keyFile) {
	k.slot, k.recentlyUsed = len(c.ring), true
	c.ring = append(c.ring, k)
}

func (c *cache) remove(k *keyFile) {
	last := len(c.ring) - 1
	c.ring[k.slot] = c.ring[last]
	c.ring[k.slot].slot = k.slot
	c.ring[last] = nil
	c.ring = c.ring[:last]
}

// pickVictim returns the file to close next, or nil if all open files belong to the batch.
func (c *cache) pickVictim() *keyFile {
	for range 2 * len(c.ring) {
		c.hand++
		if c.hand >= len(c.ring) {
			c.hand = 0
		}
		k := c.ring[c.hand]
		if k.batch == c.batch {
			continue
		}
		if !k.recentlyUsed {
			return k
		}
		k.recentlyUsed = false
	}
	return nil
}

// makeRoom closes files until another file can be opened. It returns false if all open files
// belong to the batch.
func (c *cache) makeRoom() (bool, error) {
	for len(c.ring) >= c.maxOpen {
		if c.fullBatch == c.batch {
			return false, nil
		}
		k := c.pickVictim()
		if k == nil {
			c.fullBatch = c.batch // later calls for this batch need not search
			return false, nil
		}
		if err := c.evict(k); err != nil {
			return false, err
		}
	}
	return true, nil
}

// evict closes a file that does not belong to the batch and removes it from the cache.
func (c *cache) evict(k *keyFile) error {
	delete(c.byKey, k.key)
	return c.closeFile(k)
}

// closeFile closes a file, but keeps its keyFile in the cache. It adds a file with unsynced data to
// c.dirty, even if closing fails.
func (c *cache) closeFile(k *keyFile) error {
	if k.dirty {
		c.dirty.add(k.path)
	}
	if k.file == nil {
		return nil
	}
	c.remove(k)
	return c.refuseWrites(closeOnce(&k.file)) // an error can mean that earlier appends are lost
}

// closeAll closes all cached files, even those of the current batch.
func (c *cache) closeAll() error {
	var err error
	for n := len(c.ring); n > 0; n-- {
		err = errors.Join(err, c.closeFile(c.ring[n-1]))
	}
	clear(c.byKey)
	c.hand = 0
	return err
}

func (c *cache) forget(key string) error {
	if k := c.byKey[key]; k != nil {
		return c.evict(k)
	}
	return nil
}

// retry calls open. If that fails because too many files are open, retry closes the cached
// files and calls open again.
func retry[T any](c *cache, open func() (T, error)) (T, error) {
	file, err := open()
	if isTooManyOpen(err) && len(c.ring) > 0 {
		if err := c.closeAll(); err != nil {
			return file, err
		}
		return open()
	}
	return file, err
}

func (c *cache) open(path string, flags int) (vfs.File, error) {
	return c.openPerm(path, flags, 0o666)
}

func (c *cache) openPerm(path string, flags int, perm fs.FileMode) (vfs.File, error) {
	return retry(c, func() (vfs.File, error) { return c.fs.OpenFile(path, flags|vfs.NoFollow, perm) })
}

func (c *cache) openKey(k *keyFile, flags int) error {
	file, err := c.open(k.path, os.O_RDWR|flags)
	if err != nil {
		return err
	}
	info, err := regularInfo(file)
	if err != nil {
		return err
	}
	k.file, k.info, k.size, k.epoch = file, info, info.Size, c.epoch
	c.add(k)
	c.byKey[k.key] = k
	return nil
}

func (c *cache) syncPath(path string) error {
	file, err := c.open(path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) || err != nil && c.isDir(path) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// syncDirty syncs the files with unsynced data. dirty must not have overflowed.
func (c *cache) syncDirty(ctx context.Context) error {
	for _, k := range c.ring {
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
		info, err := c.fs.Info(k.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && !info.SameFile(k.info) {
			c.dirty.add(k.path)
		}
		k.dirty = false
	}
	for path := range c.dirty.paths {
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		if err := c.syncPath(path); err != nil {
			return err
		}
		delete(c.dirty.paths, path)
	}
	return nil
}

// markSynced records that all files were synced.
func (c *cache) markSynced() {
	for _, k := range c.ring {
		k.dirty = false
	}
	c.dirty.clear()
}
