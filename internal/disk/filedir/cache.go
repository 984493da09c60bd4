package filedir

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/go-partd/partd/internal/disk/names"
	"github.com/go-partd/partd/internal/disk/vfs"
)

var errNotRegular = errors.New("not a regular file, so the store cannot use it")

// keyFile is a key's file, which can stay open between appends.
type keyFile struct {
	key          string
	path         string
	file         vfs.File // nil if not open
	info         vfs.Info // info at the time of opening, to detect that the file was replaced
	size         int64    // length; valid while epoch equals cache.epoch
	epoch        uint64   // cache.epoch when size was read
	recentlyUsed bool     // used since cache.hand last passed
	slot         int      // index in cache.ring, if open
	dirty        bool     // has unsynced data

	batch       uint64 // number of the batch that set the fields below
	first, last int    // index of the key's first and last entry
	addSize     int64
	inline      int  // offset of the added bytes in the undo record; -1 if the record contains only checksums
	isNew       bool // the file did not exist before the batch
	created     bool // the batch has already created the file
}

// cache holds the open files, and evicts them with the clock algorithm.
type cache struct {
	byKey map[string]*keyFile
	ring  []*keyFile
	hand  int    // index in ring of the next candidate for eviction
	epoch uint64 // increases when the lock is taken, because other processes may have changed files
}

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

// closeOnce closes a file and sets it to nil, unless it is already nil.
func closeOnce(file *vfs.File) error {
	f := *file
	if f == nil {
		return nil
	}
	*file = nil
	return f.Close()
}

// pickVictim returns the file to close next, or nil if all open files belong to the given batch.
func (c *cache) pickVictim(batch uint64) *keyFile {
	for range 2 * len(c.ring) {
		c.hand++
		if c.hand >= len(c.ring) {
			c.hand = 0
		}
		k := c.ring[c.hand]
		if k.batch == batch {
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
func (d *Dir) makeRoom() (bool, error) {
	for len(d.cache.ring) >= d.maxOpen {
		if d.batch.fullBatch == d.batch.number {
			return false, nil
		}
		k := d.cache.pickVictim(d.batch.number)
		if k == nil {
			d.batch.fullBatch = d.batch.number // later calls for this batch need not search
			return false, nil
		}
		if err := d.evict(k); err != nil {
			return false, err
		}
	}
	return true, nil
}

// evict closes a file that does not belong to the batch, and removes it from the cache.
func (d *Dir) evict(k *keyFile) error {
	delete(d.cache.byKey, k.key)
	return d.closeFile(k)
}

// closeFile closes a file, but keeps its keyFile in the cache. It adds a file with unsynced data to
// d.dirty, even if closing fails.
func (d *Dir) closeFile(k *keyFile) error {
	if k.dirty {
		d.dirty.add(k.path)
	}
	if k.file == nil {
		return nil
	}
	d.cache.remove(k)
	return d.refuseWrites(closeOnce(&k.file)) // an error can mean that earlier appends are lost
}

// retry calls open. If that fails because too many files are open, retry closes the cached
// files and calls open again.
func retry[T any](d *Dir, open func() (T, error)) (T, error) {
	file, err := open()
	if isTooManyOpen(err) && len(d.cache.ring) > 0 {
		if err := d.closeCached(); err != nil {
			return file, err
		}
		return open()
	}
	return file, err
}

func (d *Dir) open(path string, flags int) (vfs.File, error) {
	return d.openPerm(path, flags, 0o666)
}

func (d *Dir) openPerm(path string, flags int, perm fs.FileMode) (vfs.File, error) {
	return retry(d, func() (vfs.File, error) { return d.fs.OpenFile(path, flags|vfs.NoFollow, perm) })
}

// openOwn opens a file that does not belong to a key, such as the journal. If the file does not
// exist, openOwn creates it or, if create is false, returns nil.
func (d *Dir) openOwn(path string, create bool) (vfs.File, error) {
	file, err := d.open(path, os.O_RDWR)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	if !create {
		return nil, nil
	}
	file, err = d.open(path, os.O_RDWR|os.O_CREATE)
	if err != nil || !d.sync {
		return file, err
	}
	// Sync the new name, so that a power loss does not remove the file with its data.
	if err := d.refuseWrites(d.syncNames()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// closeCached closes all cached files, even those of the current batch.
func (d *Dir) closeCached() error {
	var err error
	for n := len(d.cache.ring); n > 0; n-- {
		err = errors.Join(err, d.closeFile(d.cache.ring[n-1]))
	}
	clear(d.cache.byKey)
	d.cache.hand = 0
	return err
}

// regularInfo returns the info of a newly opened file. If the file is not regular, for example a
// directory or a pipe, it closes the file and returns an error.
func regularInfo(file vfs.File) (vfs.Info, error) {
	info, err := file.Info()
	if err == nil && !info.Mode.IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		return info, errors.Join(err, file.Close())
	}
	return info, nil
}

func (d *Dir) openKey(k *keyFile, flags int) error {
	file, err := d.open(k.path, os.O_RDWR|flags)
	if err != nil {
		return err
	}
	info, err := regularInfo(file)
	if err != nil {
		return err
	}
	k.file, k.info, k.size, k.epoch = file, info, info.Size, d.cache.epoch
	d.cache.add(k)
	d.cache.byKey[k.key] = k
	return nil
}

// refresh updates k.size. It also opens the file, unless too many are open. The lock must be held.
func (d *Dir) refresh(k *keyFile) error {
	k.isNew = false
	if err := d.findTuple(k); err != nil {
		return err
	}
	if k.file != nil {
		// Look up the file by name, although the info of the open file would be faster to get: the
		// open file may have been removed or replaced. Its link count would not show that if it has
		// another hard link.
		info, err := d.fs.Info(k.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && info.SameFile(k.info) {
			k.size, k.epoch = info.Size, d.cache.epoch
			return nil
		}
		if err := d.closeFile(k); err != nil {
			return err
		}
	}
	canOpen, err := d.makeRoom()
	if err != nil {
		return err
	}
	if canOpen {
		err = d.openKey(k, 0)
	} else {
		var info vfs.Info
		info, err = d.fs.Info(k.path)
		if err == nil && !info.Mode.IsRegular() {
			err = errNotRegular
		}
		k.size, k.epoch = info.Size, d.cache.epoch
	}
	cleared := false
	if err != nil && d.isDir(k.path) {
		err = d.freeName(k.path[len(d.dir)+1:])
		cleared = err == nil
	}
	if cleared || errors.Is(err, fs.ErrNotExist) {
		k.isNew, k.size = true, 0
		return nil
	}
	return err
}

// removeValue removes the file with a key's value and, if the key is long, the file that contains
// the key itself.
func (d *Dir) removeValue(name string) error {
	if err := d.removeFile(name); err != nil {
		return err
	}
	delete(d.dirty.paths, d.path(name))
	return d.removeKeyText(name)
}

func (d *Dir) removeFile(name string) error {
	d.markNamesDirty(name)
	if err := d.fs.Remove(d.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeKeyText removes the file that contains a long key. name is the name of the file with
// its value.
func (d *Dir) removeKeyText(name string) error {
	keyName, ok := names.KeyFile(name)
	if !ok {
		return nil
	}
	return d.removeFile(keyName)
}

func (d *Dir) forgetKey(key string) error {
	if k := d.cache.byKey[key]; k != nil {
		return d.evict(k)
	}
	return nil
}

func isTooManyOpen(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
