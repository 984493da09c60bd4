package filedir

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/go-partd/partd/internal/names"
	"github.com/go-partd/partd/internal/vfs"
)

var errNotRegular = errors.New("not a regular file, so the store does not change it")

// keyFile is the file of a key. It stays open between appends.
type keyFile struct {
	key   string
	path  string
	file  vfs.File // nil if not open
	info  vfs.Info // from when it was opened, to detect a replaced file
	size  int64    // length; valid while epoch is the cache's
	epoch uint64   // value of cache.epoch at the last look
	used  bool     // since the clock's hand last passed
	slot  int      // index in the ring, if open
	dirty bool     // has unsynced data

	// State of the current batch.
	batch       uint64 // batch.number that the fields below belong to
	first, last int    // its first and last entry
	add         int64  // bytes to add
	inline      int    // offset of the bytes in the record, or -1
	isNew       bool   // the file does not exist before the batch
	created     bool   // the batch has created the file
}

// cache holds the open files. It evicts by the clock algorithm: each use sets a bit; the
// hand goes around, clears bits, and picks the first file without one.
type cache struct {
	byKey map[string]*keyFile
	ring  []*keyFile // open files
	hand  int
	epoch uint64
}

func (c *cache) add(k *keyFile) {
	k.slot, k.used = len(c.ring), true
	c.ring = append(c.ring, k)
}

func (c *cache) remove(k *keyFile) {
	last := len(c.ring) - 1
	c.ring[k.slot] = c.ring[last]
	c.ring[k.slot].slot = k.slot
	c.ring[last] = nil
	c.ring = c.ring[:last]
}

// closeOnce closes a file unless it was closed.
func closeOnce(file *vfs.File) error {
	f := *file
	if f == nil {
		return nil
	}
	*file = nil
	return f.Close()
}

// pickVictim returns the file to close next, or nil if the batch uses all open files.
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
		if !k.used {
			return k
		}
		k.used = false
	}
	return nil
}

// makeRoom closes files until another may be opened. It reports false if the batch uses all
// open files.
func (d *Dir) makeRoom() (bool, error) {
	for len(d.cache.ring) >= d.maxOpen {
		if d.batch.full == d.batch.number {
			return false, nil
		}
		k := d.cache.pickVictim(d.batch.number)
		if k == nil {
			d.batch.full = d.batch.number // the next search would find none
			return false, nil
		}
		if err := d.evict(k); err != nil {
			return false, err
		}
	}
	return true, nil
}

// evict closes and forgets a file that the batch does not use.
func (d *Dir) evict(k *keyFile) error {
	delete(d.cache.byKey, k.key)
	return d.closeFile(k)
}

// closeFile closes a file and keeps its entry. It remembers the file's path if it has
// unsynced data, whatever the outcome.
func (d *Dir) closeFile(k *keyFile) error {
	if k.dirty {
		d.dirty.add(k.path)
	}
	if k.file == nil {
		return nil
	}
	d.cache.remove(k)
	return d.refuse(closeOnce(&k.file)) // an error may mean that earlier appends are lost
}

// retry calls open. If too many files are open, it closes the cached files and calls open
// once more.
func retry[T any](d *Dir, open func() (T, error)) (T, error) {
	file, err := open()
	if tooManyOpen(err) && len(d.cache.ring) > 0 {
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

// openOwn opens one of the store's own files. If the file does not exist, openOwn creates
// it, or returns nil if create is false.
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
	// A loss of power must not remove the new file with its data.
	if err := d.refuse(d.syncNames()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// closeCached closes all cached files. The current batch keeps their entries, closed.
func (d *Dir) closeCached() error {
	var err error
	for n := len(d.cache.ring); n > 0; n-- {
		err = errors.Join(err, d.closeFile(d.cache.ring[n-1]))
	}
	clear(d.cache.byKey)
	d.cache.hand = 0
	return err
}

// regularInfo returns the info of a file just opened. It closes the file if that fails or
// if the file is not regular.
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

// openKey opens a key's file for the batch. Flags O_CREATE and O_EXCL create it.
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

// refresh updates the length of a key's file, under the lock, and opens it if there is room.
func (d *Dir) refresh(k *keyFile) error {
	k.isNew = false
	if err := d.findTuple(k); err != nil {
		return err
	}
	if k.file != nil {
		// Asking by name costs more than asking the open file, but is needed: a removed
		// file may still have another name, a hard link.
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
	room, err := d.makeRoom()
	if err != nil {
		return err
	}
	if room {
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

// removeKeyFile removes the file of a key's value, and then the file of a long key's text.
func (d *Dir) removeKeyFile(name string) error {
	if err := d.removeFile(name); err != nil {
		return err
	}
	delete(d.dirty.paths, d.path(name))
	return d.removeLongKey(name)
}

func (d *Dir) removeFile(name string) error {
	d.markNamesDirty(name)
	if err := d.fs.Remove(d.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeLongKey removes the file of a long key's text, given the name of its value's file.
func (d *Dir) removeLongKey(name string) error {
	keyName, ok := names.KeyFile(name)
	if !ok {
		return nil
	}
	return d.removeFile(keyName)
}

// forgetKey evicts a key's file that will be, or was, removed or replaced.
func (d *Dir) forgetKey(key string) error {
	if k := d.cache.byKey[key]; k != nil {
		return d.evict(k)
	}
	return nil
}

// tooManyOpen reports whether the process or the system has run out of descriptors.
func tooManyOpen(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
