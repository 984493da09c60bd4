package filedir

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/go-partd/partd/internal/names"
	"github.com/go-partd/partd/internal/vfs"
)

var errNotRegular = errors.New("it is not a regular file; the store leaves it alone")

// keyFile is a key's file, kept open between appends.
type keyFile struct {
	key   string
	path  string
	file  vfs.File // nil: not open now
	info  vfs.Info // as it was when it was opened; reports whether the name is still that of this file
	size  int64    // its length, right while epoch is the cache's
	epoch uint64   // when it was looked at: a number of cache.epoch
	used  bool     // since the hand of the clock came by
	slot  int      // where it is in the ring, if it is open
	dirty bool     // has data that was not synced

	// What the batch under way does to it.
	batch       uint64 // the batch that this is about: a number of batch.number
	first, last int    // its first and its last entry
	add         int64  // bytes to add
	inline      int    // where in the record they are; -1 if they are not
	created     bool   // it does not exist before
	made        bool   // it was made by this batch
}

// cache holds the open files. Which to close is chosen by a clock: each use
// sets a bit, a hand goes round and clears it, and closes the first file found
// without it.
type cache struct {
	byKey map[string]*keyFile
	ring  []*keyFile // the open ones
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

// victim returns the file to close next, or nil if all are of the batch.
func (c *cache) victim(batch uint64) *keyFile {
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

// makeRoom closes files until one more may be opened, unless the batch needs all
// that are open.
func (d *Dir) makeRoom() (bool, error) {
	for len(d.cache.ring) >= d.maxOpen {
		if d.batch.full == d.batch.number {
			return false, nil
		}
		k := d.cache.victim(d.batch.number)
		if k == nil {
			d.batch.full = d.batch.number // looking again would find none
			return false, nil
		}
		if err := d.evict(k); err != nil {
			return false, err
		}
	}
	return true, nil
}

// evict forgets a file that no batch needs now.
func (d *Dir) evict(k *keyFile) error {
	delete(d.cache.byKey, k.key)
	return d.closeFile(k)
}

// closeFile closes a file and leaves its entry. What it has that was not synced
// stays known by its name, whatever becomes of the operation that closes it.
func (d *Dir) closeFile(k *keyFile) error {
	if k.dirty {
		d.dirty.add(k.path)
	}
	if k.file == nil {
		return nil
	}
	d.cache.remove(k)
	return d.refuse(closeOnce(&k.file)) // earlier appends may be lost
}

// retry opens something; when too many files are open, it closes all that are
// kept and tries once more.
func retry[T any](d *Dir, open func() (T, error)) (T, error) {
	file, err := open()
	if tooManyOpen(err) && len(d.cache.ring) > 0 {
		if err := d.closeKept(); err != nil {
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

// openOwn opens one of the store's own files. One that does not exist is made if
// create is set; else it is nil.
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
	// What is written to a file that a loss of power takes away is lost.
	if err := d.refuse(d.syncNames()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// closeKept closes every kept file. The batch under way finds its entries as
// they were, but closed.
func (d *Dir) closeKept() error {
	var err error
	for n := len(d.cache.ring); n > 0; n-- {
		err = errors.Join(err, d.closeFile(d.cache.ring[n-1]))
	}
	clear(d.cache.byKey)
	d.cache.hand = 0
	return err
}

// regularInfo describes a file that was just opened, and closes it if it is not
// a regular one.
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

// openKey opens a key's file for the batch, with the flags O_CREATE and O_EXCL
// if it must be made.
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

// lookAt finds out how long a key's file is, under the lock, and opens it if
// there is room.
func (d *Dir) lookAt(k *keyFile) error {
	k.created = false
	if err := d.findTuple(k); err != nil {
		return err
	}
	if k.file != nil {
		// Asking by name is dearer than asking the open file, but that can't tell:
		// it has a name left if somebody made a hard link before it was removed.
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
		err = d.clearWay(k.path[len(d.dir)+1:])
		cleared = err == nil
	}
	if cleared || errors.Is(err, fs.ErrNotExist) {
		k.created, k.size = true, 0
		return nil
	}
	return err
}

// removeKeyFile removes the file of a key's value, and, after it, the one that
// holds a long key.
func (d *Dir) removeKeyFile(name string) error {
	if err := d.removeFile(name); err != nil {
		return err
	}
	delete(d.dirty.paths, d.path(name))
	return d.removeLongKey(name)
}

func (d *Dir) removeFile(name string) error {
	d.noteNames(name)
	if err := d.fs.Remove(d.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeLongKey removes the file that holds a long key, given the name of the
// file of its value.
func (d *Dir) removeLongKey(name string) error {
	keyName, ok := names.KeyFile(name)
	if !ok {
		return nil
	}
	return d.removeFile(keyName)
}

// forgetKey lets go of a key's file that is to be removed or replaced, or was.
func (d *Dir) forgetKey(key string) error {
	if k := d.cache.byKey[key]; k != nil {
		return d.evict(k)
	}
	return nil
}

// tooManyOpen reports whether the process or the system is out of descriptors.
func tooManyOpen(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
