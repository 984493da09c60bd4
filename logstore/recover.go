package logstore

import (
	"fmt"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/segment"
)

// recoverWrite writes the records of the write-ahead files as segments and begins a new write-ahead
// file.
func (j *journal) recoverWrite(storeExists bool) error {
	var live []*walReader
	epoch := j.catalog.manifest.liveEpoch
	if storeExists {
		var err error
		live, err = j.wal.open(&j.catalog.manifest, j.openFlag())
		if err != nil {
			return err
		}
		epoch = max(epoch, j.wal.lastEpoch) + 1
		if j.durable.Load() {
			if err := j.catalog.syncRecovered(live); err != nil {
				return err
			}
		}
	}
	t := <-j.tables.free
	wal, err := j.recoverInto(t, live, epoch)
	if err != nil {
		j.tables.free <- t // releaseAll frees it
		return err
	}
	j.wal.group.MarkSynced(j.seq - 1)
	j.activate(t, wal)
	return nil
}

func (j *journal) replay(live []*walReader, add func(entries []byte) error) error {
	return j.wal.replay(live, j.seq, j.catalog.files.checkBlobs, func(h recordHeader, entries []byte) error {
		if err := add(entries); err != nil {
			return err
		}
		j.seq = h.seq + 1
		j.sessions.apply(h, j.maxSessions)
		j.wal.recovery.Records++
		return nil
	})
}

// recoverInto uses table t to write the records of the live files as segments. Then it begins a
// write-ahead file with the given epoch.
func (j *journal) recoverInto(t *memtable, live []*walReader, epoch uint64) (_ *walFile, err error) {
	w := &bulkWriter{j: j, t: t}
	defer func() {
		if err != nil {
			w.undo()
		}
	}()
	for _, f := range j.catalog.files.files() { // new data goes to the last file of each kind
		if f.Kind == segment.SegmentFile {
			j.sealer.file = f
		} else {
			j.blobs.file = f
		}
	}
	b := &batch{}
	err = j.replay(live, func(entries []byte) error {
		if err := j.addRecord(b, entries); err != nil {
			return err
		}
		return w.add(b)
	})
	if err != nil {
		return nil, err
	}
	slot, reuse, err := j.wal.nextSlot(live, j.seq)
	if err != nil {
		return nil, err
	}
	if reuse {
		epoch = live[len(live)-1].epoch
		if err := j.wal.clearEnd(live[len(live)-2]); err != nil {
			return nil, err
		}
		// Remove an incomplete record from the file. The incomplete record has the same epoch as
		// the new records, so it could be mistaken for one of them.
		if err := j.wal.files[slot].Truncate(0); err != nil {
			return nil, err
		}
	}
	wal, err := j.wal.begin(slot, walHeader{epoch: epoch, firstSeq: j.seq})
	if err != nil {
		return nil, err
	}
	if err := w.finish(func(m *manifest) {
		m.liveEpoch, m.nextSeq, m.sessions, m.clean = epoch, j.seq, j.sessions.clone(), false
	}); err != nil {
		return nil, err
	}
	j.segments.list = append(j.segments.list, w.segments...)
	return wal, nil
}

// recoverReadOnly loads the records of the write-ahead files into tables. memory is the store's
// memory limit in bytes, most of which the tables may use.
func (j *journal) recoverReadOnly(storeExists bool, memory int64, maxBatch int) error {
	live, err := j.wal.open(&j.catalog.manifest, j.openFlag())
	if err != nil || !storeExists {
		return err
	}
	b := &batch{}
	var t *memtable
	size := max(memory/8, int64(maxBatch)*3)
	j.tables.bits, _ = tableShape(size)
	return j.replay(live, func(entries []byte) error {
		if j.tables.walErr != nil {
			return nil // replay only sessions: the store will support only Drop, which keeps nothing else
		}
		if err := j.addRecord(b, entries); err != nil {
			return err
		}
		if t == nil || !t.fits(b) {
			if int64(len(j.tables.walTables)+1)*size > memory*7/8 {
				err := fmt.Errorf("the store was not closed, and its write-ahead files need more than %d bytes of memory: open it once for writing, or increase the Memory option", memory)
				if j.noWALError() != nil {
					j.tables.walErr = err
					return nil
				}
				return err
			}
			t, err = newTable(size)
			if err != nil {
				return err
			}
			t.temporary = true
			t.refs.Store(1)
			j.tables.walTables = append(j.tables.walTables, t)
			if !t.fits(b) {
				return fmt.Errorf("%w: a record of %d bytes does not fit: increase the Memory option", partd.ErrTooLarge, len(entries))
			}
		}
		t.insert(b)
		return nil
	})
}

func (j *journal) addRecord(b *batch, entries []byte) error {
	b.reset()
	for len(entries) > 0 {
		e, err := segment.ParseEntry(entries)
		if err != nil {
			return err
		}
		if err := j.catalog.files.addEntry(&b.ledger, &e); err != nil {
			return err
		}
		b.push(len(b.buf), append(b.buf, e.Raw...), j.format.HashBytes(e.Key), j.tables.bits)
		entries = entries[len(e.Raw):]
	}
	return nil
}

// syncRecovered syncs data that a killed process may not have synced. It must run before a write-ahead
// file is created or reused: the file's header says how many records the earlier files have, and a
// power loss could restore an earlier manifest, which needs the reused file.
func (c *catalog) syncRecovered(live []*walReader) error {
	return c.syncExclusive(func() error {
		if err := c.syncData(c.files); err != nil {
			return err
		}
		for _, l := range live {
			if err := l.f.Sync(); err != nil {
				return err
			}
		}
		return c.syncDir()
	})
}
