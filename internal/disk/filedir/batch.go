package filedir

import (
	"encoding/binary"
	"errors"
	"strings"
)

// batch holds the state of an append. Its buffers are reused for the next append.
type batch struct {
	number    uint64
	fullBatch uint64     // number of the last batch to which all open files belonged
	touched   []*keyFile // the batch's files, in the order of their first entries
	nextEntry []int      // for each entry, the index of the key's next entry, or -1
	record    []byte
	scratch   []byte
}

// groupByKey finds the keys of a batch, and links the entries of each key in nextEntry. It marks
// each keyFile with the batch's number, which is cheaper than a map for each batch.
func (b *batch) groupByKey(d *Dir, entries Entries) {
	b.number++
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
		k := d.cache.byKey[key]
		if k == nil {
			key = strings.Clone(key) // the key may be part of a large string
			k = &keyFile{key: key, path: d.path(d.scheme.Name(key))}
			d.cache.byKey[key] = k
		}
		if k.batch == b.number {
			b.nextEntry[k.last] = i
			k.last = i
			k.addSize += int64(len(value))
			continue
		}
		k.batch, k.recentlyUsed = b.number, true
		k.first, k.last, k.addSize = i, i, int64(len(value))
		k.isNew, k.created = false, false
		b.touched = append(b.touched, k)
	}
}

// release ends the batch, and frees its large buffers and unused files. It also closes files with
// very long keys, because the keys of thousands of open files could use half a gigabyte.
func (b *batch) release(d *Dir) {
	for i, k := range b.touched {
		if k.file == nil {
			if d.cache.byKey[k.key] == k {
				delete(d.cache.byKey, k.key)
			}
			if k.dirty {
				d.dirty.add(k.path)
			}
		} else if len(k.key) > maxCachedKey {
			if err := d.evict(k); err != nil {
				d.log.Error("partd: closing a file", "file", k.path, "err", err)
			}
		}
		b.touched[i] = nil
	}
	b.number++ // from now on, makeRoom may close the batch's files
	if cap(b.nextEntry) > maxReusedEntries {
		b.nextEntry, b.touched = nil, nil
	}
	if cap(b.record) > maxReusedBuffer {
		b.record = nil
	}
}

func (d *Dir) buildRecord(entries Entries) {
	b := &d.batch
	rec := newRecord(b.record)
	for _, k := range b.touched {
		rec = appendName(rec, k.path[len(d.dir)+1:])
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
	b.record = d.seal(rec, kindAppend, len(b.touched))
}

// rollback undoes the append in the first n files of the batch, and returns cause. If undoing
// fails, the undo record stays, and the next lock holder undoes the append. If a sync failed, the
// returned error says that the outcome is unknown.
func (d *Dir) rollback(n int, cause error) error {
	var err error
	for _, k := range d.batch.touched[:n] {
		err = errors.Join(err, d.rollbackKey(k))
	}
	if d.tag != nil && d.tag.mayBeWritten {
		err = errors.Join(err, d.writeSlot(d.tag.slot, d.tag.oldSlot))
	}
	if d.sync && err == nil {
		// The truncations must be on disk before the undo record is cleared.
		err = d.refuseWrites(d.syncBatchCut(n))
	}
	if err == nil {
		err = d.clearRecord()
	}
	if err != nil {
		d.needsReplay = true
		d.warn("a failed append will be undone by the next operation", err)
	}
	if d.failure != nil {
		return unknownOutcome(cause)
	}
	return cause
}

// rollbackKey truncates a file to its size before the append, or removes a new file.
func (d *Dir) rollbackKey(k *keyFile) error {
	k.epoch = 0
	if k.isNew {
		name := k.path[len(d.dir)+1:]
		if k.created {
			delete(d.cache.byKey, k.key)
			if k.file != nil {
				d.cache.remove(k)
			}
			// Do not refuse later writes if closing fails: a new file has no older data to lose.
			return errors.Join(closeOnce(&k.file), d.removeValue(name))
		}
		return d.removeKeyText(name)
	}
	if k.file == nil {
		if err := d.makeRoomInBatch(); err != nil {
			return err
		}
		size := k.size
		if err := d.openKey(k, 0); err != nil {
			return err
		}
		k.size, k.epoch = size, 0
	}
	if err := k.file.Truncate(k.size); err != nil {
		return err
	}
	k.dirty = !d.sync // a power loss could restore the truncated bytes
	return nil
}

func (d *Dir) syncBatchCut(n int) error {
	for _, k := range d.batch.touched[:n] {
		if k.isNew {
			continue
		}
		if err := d.syncPath(k.path); err != nil {
			return err
		}
	}
	return d.syncNames()
}
