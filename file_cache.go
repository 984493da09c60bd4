package partd

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/go-partd/partd/internal/names"
	"github.com/go-partd/partd/internal/vfs"
)

// errNotRegular says that a key's name is taken by something else.
var errNotRegular = errors.New("it is no regular file; the store leaves it alone")

// keyFile is a key's file, kept open between appends.
type keyFile struct {
	key   string
	path  string
	file  vfs.File // nil: not open now
	info  vfs.Info // as it was when it was opened; tells whether the name is still that of this file
	size  int64    // its length, right while epoch is the cache's
	epoch uint64   // when it was looked at: a number of fileCache.epoch
	used  bool     // since the hand of the clock came by
	slot  int      // where it is in the ring, if it is open
	dirty bool     // has data that was not synced

	// What the batch under way does to it.
	batch       uint64 // the batch that this is about: a number of fileBatch.number
	first, last int    // its first and its last entry
	add         int64  // bytes to add
	inline      int    // where in the record they are; -1 if they are not
	created     bool   // it does not exist before
	made        bool   // it was made by this batch
}

// fileCache holds the open files. Which to close is chosen by a clock: each use
// sets a bit, a hand goes round and clears it, and closes the first file found
// without it.
type fileCache struct {
	byKey map[string]*keyFile
	ring  []*keyFile // the open ones
	hand  int
	epoch uint64
}

func (c *fileCache) init() { c.byKey = make(map[string]*keyFile) }

// remember puts an open file in the ring.
func (c *fileCache) remember(k *keyFile) {
	k.slot, k.used = len(c.ring), true
	c.ring = append(c.ring, k)
}

// close closes a file and leaves its entry.
func (c *fileCache) close(k *keyFile) error {
	if k.file == nil {
		return nil
	}
	last := len(c.ring) - 1
	c.ring[k.slot] = c.ring[last]
	c.ring[k.slot].slot = k.slot
	c.ring[last] = nil
	c.ring = c.ring[:last]
	file := k.file
	k.file = nil
	return file.Close()
}

// forget closes a file and removes its entry.
func (c *fileCache) forget(k *keyFile) error {
	delete(c.byKey, k.key)
	return c.close(k)
}

// closeAll closes every file. Entries of the batch under way stay usable: they
// are opened again.
func (c *fileCache) closeAll() error {
	var errs []error
	for len(c.ring) > 0 {
		errs = append(errs, c.close(c.ring[len(c.ring)-1]))
	}
	clear(c.byKey)
	c.hand = 0
	return errors.Join(errs...)
}

// victim returns the file to close next, or nil if all are of the batch.
func (c *fileCache) victim(batch uint64) *keyFile {
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

// makeRoom closes files until one more may be opened. It tells whether there is
// room without closing files that the batch needs.
func (f *File) makeRoom() (bool, error) {
	for len(f.cache.ring) >= f.maxOpen {
		if f.batch.full == f.batch.number {
			return false, nil
		}
		k := f.cache.victim(f.batch.number)
		if k == nil {
			f.batch.full = f.batch.number // looking again would find none
			return false, nil
		}
		if err := f.evict(k); err != nil {
			return false, err
		}
	}
	return true, nil
}

// evict forgets a file that no batch needs now.
func (f *File) evict(k *keyFile) error {
	delete(f.cache.byKey, k.key)
	return f.closeFile(k)
}

// closeFile closes a file and leaves its entry. What it has that was not synced
// stays known by its name, whatever becomes of the operation that closes it.
func (f *File) closeFile(k *keyFile) error {
	if k.dirty {
		f.dirty.add(k.path)
	}
	err := f.cache.close(k)
	if err != nil { // earlier appends may be lost
		f.refuse(err)
	}
	return err
}

// openRetry opens a file; when there are too many, it closes all that are kept
// and tries once more.
func (f *File) openRetry(path string, flags int) (vfs.File, error) {
	file, err := f.fs.OpenFile(path, flags|vfs.NoFollow, 0o666)
	if tooManyOpen(err) && len(f.cache.ring) > 0 {
		if err := f.closeKept(); err != nil {
			return nil, err
		}
		file, err = f.fs.OpenFile(path, flags|vfs.NoFollow, 0o666)
	}
	return file, err
}

// closeKept closes every kept file. The batch under way finds its entries as
// they were, but closed.
func (f *File) closeKept() error {
	for _, k := range f.cache.ring {
		if k.dirty {
			f.dirty.add(k.path)
		}
	}
	err := f.cache.closeAll()
	if err != nil {
		f.refuse(err)
	}
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
func (f *File) openKey(k *keyFile, flags int) error {
	file, err := f.openRetry(k.path, os.O_RDWR|flags)
	if err != nil {
		return err
	}
	info, err := regularInfo(file)
	if err != nil {
		return err
	}
	k.file, k.info, k.size, k.epoch = file, info, info.Size, f.cache.epoch
	f.cache.remember(k)
	f.cache.byKey[k.key] = k
	return nil
}

// lookAt finds out how long a key's file is, under the lock, and opens it if
// there is room.
func (f *File) lookAt(k *keyFile) error {
	k.created = false
	if k.file != nil {
		// Asking by name is dearer than asking the open file, but that can't tell:
		// it has a name left if somebody made a hard link before it was removed.
		info, err := f.fs.Info(k.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && info.SameFile(k.info) {
			k.size, k.epoch = info.Size, f.cache.epoch
			return nil
		}
		if err := f.closeFile(k); err != nil {
			return err
		}
	}
	room, err := f.makeRoom()
	if err != nil {
		return err
	}
	if room {
		err = f.openKey(k, 0)
	} else {
		var info vfs.Info
		info, err = f.fs.Info(k.path)
		if err == nil && !info.Mode.IsRegular() {
			err = errNotRegular
		}
		k.size, k.epoch = info.Size, f.cache.epoch
	}
	if errors.Is(err, fs.ErrNotExist) {
		k.created, k.size = true, 0
		return nil
	}
	return err
}

// removeKeyFile removes the file of a key's value, and, after it, the one that
// holds a long key.
func (f *File) removeKeyFile(name string) error {
	path := f.path(name)
	if err := f.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	delete(f.dirty.paths, path)
	return f.removeLongKey(name)
}

// removeLongKey removes the file that holds a long key, given the name of the
// file of its value.
func (f *File) removeLongKey(name string) error {
	keyName, ok := names.KeyFile(name)
	if !ok {
		return nil
	}
	if err := f.fs.Remove(f.path(keyName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// forgetKey lets go of a key's file that is to be removed or replaced, or was.
func (f *File) forgetKey(key string) error {
	if k := f.cache.byKey[key]; k != nil {
		return f.evict(k)
	}
	return nil
}

// tooManyOpen tells whether the process or the system is out of descriptors.
func tooManyOpen(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
