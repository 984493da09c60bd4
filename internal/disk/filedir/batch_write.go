package filedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

func (b *batch) writeKey(k *keyFile, entries Entries) error {
	if k.file == nil {
		if err := b.openForWrite(k); err != nil {
			return err
		}
	}
	if k.inline >= 0 { // the undo record contains all bytes to add
		return b.writeAt(k, b.record[k.inline:k.inline+int(k.addSize)], k.size)
	}
	return b.writeChain(k, entries)
}

// openForWrite opens or creates the file of k, which must not be open.
func (b *batch) openForWrite(k *keyFile) error {
	flags := 0
	if k.isNew && !k.created {
		flags = os.O_CREATE | os.O_EXCL
		name := k.path[len(b.dir)+1:]
		if err := errors.Join(b.staging.writeKeyFile(k.key, name), b.tree.makeParents(name)); err != nil {
			return err
		}
	}
	if err := b.makeRoom(); err != nil {
		return err
	}
	size := k.size
	err := b.cache.openKey(k, flags)
	if k.isNew && !errors.Is(err, fs.ErrExist) {
		k.created = true
	}
	if err == nil && k.size != size {
		err = fmt.Errorf("its length changed from %d to %d bytes while it was locked", size, k.size)
	}
	k.size = size
	return err
}

// makeRoom makes room for opening another file. If too many files are open, it closes one,
// which may even belong to the current batch.
func (b *batch) makeRoom() error {
	canOpen, err := b.cache.makeRoom()
	if err != nil || canOpen {
		return err
	}
	k := b.cache.ring[0]
	if b.sync { // sync before closing, because the system may report a failed write only to this descriptor
		if err := b.refuseWrites(k.file.Sync()); err != nil {
			return err
		}
	}
	return b.cache.closeFile(k)
}

func (b *batch) writeChain(k *keyFile, entries Entries) error {
	offset := k.size
	buf := b.scratch[:0]
	for i := k.first; i >= 0; i = b.nextEntry[i] {
		value := entries.value(i)
		if len(buf)+len(value) > writeSize && len(buf) > 0 {
			if err := b.writeAt(k, buf, offset); err != nil {
				return err
			}
			offset += int64(len(buf))
			buf = buf[:0]
		}
		if len(value) > writeSize || b.nextEntry[i] < 0 && len(buf) == 0 {
			if err := b.writeAt(k, value, offset); err != nil {
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
	return b.writeAt(k, buf, offset)
}

func (b *batch) writeAt(k *keyFile, p []byte, offset int64) error {
	_, err := k.file.WriteAt(p, offset)
	if b.Hooks.AfterWrite != nil {
		b.Hooks.AfterWrite()
	}
	return err
}

func (b *batch) syncFiles() error {
	created := false
	for _, k := range b.touched {
		created = created || k.isNew
		if k.file == nil {
			// makeRoom closed the file, perhaps without syncing the latest write.
			if err := b.cache.syncPath(k.path); err != nil {
				return err
			}
		} else if err := k.file.Sync(); err != nil {
			return err
		}
	}
	if created {
		return b.tree.syncNames()
	}
	return nil
}

// undoKey truncates a file to its size before the append, or removes a new file.
func (b *batch) undoKey(k *keyFile) error {
	k.epoch = 0
	if k.isNew {
		name := k.path[len(b.dir)+1:]
		if k.created {
			delete(b.cache.byKey, k.key)
			if k.file != nil {
				b.cache.remove(k)
			}
			// Do not refuse later writes if closing fails: a new file has no older data to lose.
			return errors.Join(closeOnce(&k.file), b.tree.removeValue(name))
		}
		return b.tree.removeKeyText(name)
	}
	if k.file == nil {
		if err := b.makeRoom(); err != nil {
			return err
		}
		size := k.size
		if err := b.cache.openKey(k, 0); err != nil {
			return err
		}
		k.size, k.epoch = size, 0
	}
	if err := k.file.Truncate(k.size); err != nil {
		return err
	}
	k.dirty = !b.sync // a power loss could restore the truncated bytes
	return nil
}

func (b *batch) syncCut(n int) error {
	for _, k := range b.touched[:n] {
		if k.isNew {
			continue
		}
		if err := b.cache.syncPath(k.path); err != nil {
			return err
		}
	}
	return b.tree.syncNames()
}
