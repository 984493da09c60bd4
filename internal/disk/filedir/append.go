package filedir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/disk/names"
)

const (
	// writeSize is the maximum size, in bytes, of a write that combines small entries.
	writeSize = 256 << 10
	// Loops check whether their context has ended once every checkEvery files.
	checkEvery = 64
	// maxCachedKey is the maximum length of a key whose file is kept open.
	maxCachedKey = 1 << 10
	// maxReusedEntries limits the number of entries of an append whose buffers are reused.
	maxReusedEntries = 1 << 16
)

// Entries are the entries of an append. At returns the key and the value of entry i.
type Entries struct {
	Len int
	At  func(i int) (key string, value []byte)
}

func (e *Entries) value(i int) []byte {
	_, value := e.At(i)
	return value
}

// Append adds each value to its key's file. It changes all files or none, even if the process
// is killed.
func (d Tx) Append(ctx context.Context, entries Entries) error {
	b := &d.batch
	b.groupByKey(d.Dir, entries)
	defer b.release(d.Dir)
	for i, k := range b.touched {
		if err := checkContext(ctx, i); err != nil {
			return err
		}
		if k.file == nil || k.epoch != d.cache.epoch {
			if err := d.refresh(k); err != nil {
				return d.KeyError(k.key, err)
			}
		}
	}
	d.buildRecord(entries)
	if err := d.writeRecord(b.record); err != nil {
		return err
	}
	written := 0 // number of files that may have changed
	for i, k := range b.touched {
		err := checkContext(ctx, i)
		written = i + 1
		if err == nil {
			err = d.writeKey(k, entries)
		}
		if err != nil {
			return d.KeyError(k.key, d.rollback(written, err))
		}
	}
	if d.sync {
		// After a failed sync, the disk's content is unknown, even if a retry succeeds, so
		// later writes are refused.
		if err := d.refuseWrites(d.syncBatch()); err != nil {
			return d.rollback(written, err)
		}
	}
	if intact, err := d.lockIntact(); err != nil {
		return d.rollback(written, err)
	} else if !intact { // another process may hold the lock and change the files
		for _, k := range b.touched {
			k.epoch = 0
		}
		return unknownOutcome(errors.Join(errLockLost, d.releaseLock()))
	}
	if err := d.commitTag(); err != nil {
		return d.rollback(written, err)
	}
	if err := d.clearRecord(); err != nil {
		if d.failure != nil { // a sync failed
			return unknownOutcome(err)
		}
		return d.rollback(written, err)
	}
	for _, k := range b.touched {
		k.size += k.addSize
		k.dirty = k.dirty || !d.sync
	}
	return nil
}

func checkContext(ctx context.Context, i int) error {
	if i%checkEvery == 0 && ctx.Err() != nil {
		return canceled.Err(ctx)
	}
	return nil
}

func (d *Dir) writeKey(k *keyFile, entries Entries) error {
	if k.file == nil {
		if err := d.openForWrite(k); err != nil {
			return err
		}
	}
	b := &d.batch
	if k.inline >= 0 { // the undo record contains all bytes to add
		return d.writeAt(k, b.record[k.inline:k.inline+int(k.addSize)], k.size)
	}
	return d.writeChain(k, entries)
}

// openForWrite opens or creates the file of k, which must not be open.
func (d *Dir) openForWrite(k *keyFile) error {
	flags := 0
	if k.isNew && !k.created {
		flags = os.O_CREATE | os.O_EXCL
		name := k.path[len(d.dir)+1:]
		if err := errors.Join(d.writeKeyFile(k.key, name), d.makeParents(name)); err != nil {
			return err
		}
	}
	if err := d.makeRoomInBatch(); err != nil {
		return err
	}
	size := k.size
	err := d.openKey(k, flags)
	if k.isNew && !errors.Is(err, fs.ErrExist) {
		k.created = true
	}
	if err == nil && k.size != size {
		err = fmt.Errorf("its length changed from %d to %d bytes while it was locked", size, k.size)
	}
	k.size = size
	return err
}

// makeRoomInBatch makes room for opening another file. If too many files are open, it closes one,
// which may even belong to the current batch.
func (d *Dir) makeRoomInBatch() error {
	canOpen, err := d.makeRoom()
	if err != nil || canOpen {
		return err
	}
	k := d.cache.ring[0]
	if d.sync { // sync before closing: the system may report a failed write only to this descriptor
		if err := d.refuseWrites(k.file.Sync()); err != nil {
			return err
		}
	}
	return d.closeFile(k)
}

func (d *Dir) writeChain(k *keyFile, entries Entries) error {
	b := &d.batch
	offset := k.size
	buf := b.scratch[:0]
	for i := k.first; i >= 0; i = b.nextEntry[i] {
		value := entries.value(i)
		if len(buf)+len(value) > writeSize && len(buf) > 0 {
			if err := d.writeAt(k, buf, offset); err != nil {
				return err
			}
			offset += int64(len(buf))
			buf = buf[:0]
		}
		if len(value) > writeSize || b.nextEntry[i] < 0 && len(buf) == 0 {
			if err := d.writeAt(k, value, offset); err != nil {
				return err
			}
			offset += int64(len(value))
			continue
		}
		if b.scratch == nil {
			b.scratch = make([]byte, 0, writeSize)
			buf = b.scratch
		}
		buf = append(buf, value...)
	}
	if len(buf) == 0 {
		return nil
	}
	return d.writeAt(k, buf, offset)
}

func (d *Dir) writeAt(k *keyFile, p []byte, offset int64) error {
	_, err := k.file.WriteAt(p, offset)
	if d.Hooks.AfterWrite != nil {
		d.Hooks.AfterWrite()
	}
	return err
}

func (d *Dir) syncBatch() error {
	created := false
	for _, k := range d.batch.touched {
		created = created || k.isNew
		if k.file == nil {
			// makeRoomInBatch closed the file, perhaps without syncing the latest write.
			if err := d.syncPath(k.path); err != nil {
				return err
			}
		} else if err := k.file.Sync(); err != nil {
			return err
		}
	}
	if created {
		return d.syncNames()
	}
	return nil
}

// writeKeyFile stores a key that is too long for a file name in a separate file. name is the name
// of the file for the key's value. Call writeKeyFile before creating the file for the value.
func (d *Dir) writeKeyFile(key, name string) error {
	keyName, ok := names.KeyFile(name)
	if !ok {
		return nil
	}
	if _, err := d.fs.Info(d.path(keyName)); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.replaceFile(keyName, []byte(key))
}
