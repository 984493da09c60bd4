package filedir

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"strings"

	"github.com/go-partd/partd/internal/disk/vfs"
)

const (
	// maxCachedKey is the maximum length of a key whose file is kept open.
	maxCachedKey = 1 << 10
	// The buffers of an append with more than maxReusedEntries entries are not reused.
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

// batch holds the state of an append. Its buffers are reused for the next append.
type batch struct {
	*env
	cache     *cache
	tree      *tree
	staging   *staging
	touched   []*keyFile // the batch's files, in order of their first entries
	nextEntry []int      // for each entry, the index of the key's next entry, or -1
	record    []byte
	scratch   []byte
}

// groupByKey finds the keys in a batch and links the entries of each key in nextEntry. It marks
// each keyFile with the batch's number, which is cheaper than a map for each batch.
func (b *batch) groupByKey(entries Entries) {
	b.cache.batch++
	b.touched = b.touched[:0]
	if cap(b.nextEntry) < entries.Len {
		b.nextEntry = make([]int, entries.Len)
	}
	b.nextEntry = b.nextEntry[:entries.Len]
	for i := range entries.Len {
		key, value := entries.At(i)
		if len(value) == 0 {
			continue
		}
		b.nextEntry[i] = -1
		k := b.cache.byKey[key]
		if k == nil {
			key = strings.Clone(key) // the key may be part of a large string
			k = &keyFile{key: key, path: b.path(b.tree.scheme.Name(key))}
			b.cache.byKey[key] = k
		}
		if k.batch == b.cache.batch {
			b.nextEntry[k.last] = i
			k.last = i
			k.addSize += int64(len(value))
			continue
		}
		k.batch, k.recentlyUsed = b.cache.batch, true
		k.first, k.last, k.addSize = i, i, int64(len(value))
		k.isNew, k.created = false, false
		b.touched = append(b.touched, k)
	}
}

// release ends the batch and frees its large buffers and unused files. It also closes files with
// very long keys, because the keys of thousands of open files could use half a gigabyte.
func (b *batch) release() {
	for i, k := range b.touched {
		if k.file == nil {
			if b.cache.byKey[k.key] == k {
				delete(b.cache.byKey, k.key)
			}
			if k.dirty {
				b.cache.dirty.add(k.path)
			}
		} else if len(k.key) > maxCachedKey {
			if err := b.cache.evict(k); err != nil {
				b.log.Error("partd: closing a file", "file", k.path, "err", err)
			}
		}
		b.touched[i] = nil
	}
	b.cache.batch++ // from now on, makeRoom may close the batch's files
	if cap(b.nextEntry) > maxReusedEntries {
		b.nextEntry, b.touched = nil, nil
	}
	if cap(b.record) > maxReusedBuffer {
		b.record = nil
	}
}

// refresh updates k.size. It also opens the file, unless too many are open. The lock must be held.
func (b *batch) refresh(k *keyFile) error {
	k.isNew = false
	if err := b.findTuple(k); err != nil {
		return err
	}
	if k.file != nil {
		// Look up the file by name. The info of the open file would be faster to get, but the open
		// file may have been removed or replaced. Its link count would not show that if it has
		// another hard link.
		info, err := b.fs.Info(k.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && info.SameFile(k.info) {
			k.size, k.epoch = info.Size, b.cache.epoch
			return nil
		}
		if err := b.cache.closeFile(k); err != nil {
			return err
		}
	}
	canOpen, err := b.cache.makeRoom()
	if err != nil {
		return err
	}
	if canOpen {
		err = b.cache.openKey(k, 0)
	} else {
		var info vfs.Info
		info, err = b.fs.Info(k.path)
		if err == nil && !info.Mode.IsRegular() {
			err = errNotRegular
		}
		k.size, k.epoch = info.Size, b.cache.epoch
	}
	cleared := false
	if err != nil && b.isDir(k.path) {
		err = b.tree.freeName(k.path[len(b.dir)+1:])
		cleared = err == nil
	}
	if cleared || errors.Is(err, fs.ErrNotExist) {
		k.isNew, k.size = true, 0
		return nil
	}
	return err
}

// findTuple updates k.path if k.key is a tuple and another process has moved its file.
func (b *batch) findTuple(k *keyFile) error {
	if _, ok := b.tree.scheme.TuplePath(k.key); !ok {
		return nil
	}
	name, err := b.tree.nameOf(k.key)
	if err != nil || b.path(name) == k.path {
		return err
	}
	err = b.cache.closeFile(k)
	k.path = b.path(name)
	return err
}

// buildRecord builds the batch's undo record. The caller must then call journal.seal.
func (b *batch) buildRecord(entries Entries) {
	rec := newRecord(b.record)
	for _, k := range b.touched {
		rec = appendName(rec, k.path[len(b.dir)+1:])
		flags := byte(0)
		if k.isNew {
			flags |= spanCreated
		}
		inline := k.addSize <= maxInline && len(rec) < maxInlineTotal
		if inline {
			flags |= spanInline
		}
		rec = append(rec, flags)
		rec = binary.LittleEndian.AppendUint64(rec, uint64(k.size))
		rec = binary.LittleEndian.AppendUint64(rec, uint64(k.addSize))
		k.inline = -1
		if inline {
			k.inline = len(rec)
			for i := k.first; i >= 0; i = b.nextEntry[i] {
				rec = append(rec, entries.value(i)...)
			}
			continue
		}
		head := min(k.addSize, pieceEnd(k.size)-k.size)
		for i := k.first; head > 0; i = b.nextEntry[i] {
			value := entries.value(i)
			value = value[:min(int64(len(value)), head)]
			rec = append(rec, value...)
			head -= int64(len(value))
		}
		sums := pieceSums{off: k.size}
		for i := k.first; i >= 0; i = b.nextEntry[i] {
			rec = sums.add(rec, entries.value(i))
		}
		rec = sums.finish(rec)
	}
	b.record = rec
}
