package logstore

import (
	"context"
	"fmt"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
)

// rotateTable freezes the active table or, if another table is frozen, waits until that table is
// sealed (written as a segment). Callers must then check the tables again. mu must be held; it is
// released during the wait.
func (j *journal) rotateTable(ctx context.Context) error {
	if j.tables.frozen == nil {
		t, err := j.tables.takeTable(ctx)
		if err != nil {
			return err
		}
		if j.tables.frozen != nil || j.seq == j.tables.active.firstSeq || j.checkWritable() != nil {
			j.tables.put(t) // while takeTable waited, another goroutine rotated the tables or closed the store
			return nil
		}
		if err := j.freeze(t); err != nil {
			j.tables.put(t)
			return err
		}
		return nil
	}
	if !j.sealing {
		j.startSeal() // the last seal failed
	}
	t, sealDone := j.tables.frozen, j.sealDone
	j.mu.Unlock()
	err := canceled.Wait(ctx, sealDone)
	j.mu.Lock()
	if err == nil && j.tables.frozen == t && !j.sealing {
		err = j.sealErr
	}
	return err
}

// freeze makes t the active table and starts to seal the previous one. mu must be held.
func (j *journal) freeze(t *memtable) error {
	if j.durable.Load() {
		// Sync the current write-ahead file before the next one exists, so that a power loss cannot
		// keep records of the next file but lose records of this one.
		if err := j.wal.sync(j.tables.active.wal, j.seq-1, j.catalog.files); err != nil {
			return err
		}
	}
	slot := 0
	if j.wal.files[slot] == j.tables.active.wal.f {
		slot = 1
	}
	w, err := j.wal.begin(slot, walHeader{epoch: j.tables.active.wal.epoch + 1, firstSeq: j.seq})
	if err != nil {
		return err
	}
	j.wal.markEnd(j.tables.active.wal, w, j.seq)
	j.tables.frozen = j.tables.active
	seq, sessions := j.seq, j.sessions.clone()
	j.setFrozenState = func(m *manifest) { m.liveEpoch, m.nextSeq, m.sessions = w.epoch, seq, sessions }
	j.activate(t, w)
	j.startSeal()
	return nil
}

func (j *journal) startSeal() {
	j.sealing, j.sealErr, j.sealDone = true, nil, make(chan struct{})
	go j.seal(j.tables.frozen, j.setFrozenState, j.sealDone)
}

// seal writes a frozen table as a segment and adds the segment to the store. edit makes additional
// changes to the manifest. seal closes done at the end.
func (j *journal) seal(t *memtable, edit func(m *manifest), done chan struct{}) {
	var segments []*storedSegment
	var err error
	if t.size > 0 {
		var seg *storedSegment
		seg, err = j.sealer.write(t)
		if err == nil {
			segments = append(segments, seg)
		}
	}
	if err == nil {
		err = j.catalog.commitSegments(segments, t.ledger, edit)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sealing, j.sealErr = false, err
	if err == nil {
		j.counters.seals.Add(1)
		for _, seg := range segments {
			seg.file.end = seg.End
		}
		j.addSegments(segments)
		j.tables.frozen = nil
		j.tables.release(t)
	} else {
		j.counters.sealFailures.Add(1)
		for _, seg := range segments {
			j.truncateTail(seg.file)
		}
		j.log.Warn("logstore: a table could not be written as a segment; its data is safe in the write-ahead file",
			"dir", j.dir, "err", err)
	}
	close(done)
}

// flush writes all records of the tables to segments. mu must be held; it is released
// during the wait.
func (j *journal) flush(ctx context.Context) error {
	targetSeq := j.seq
	for {
		if j.tables.active == nil { // the disk was full at Open, or a Drop could not begin a write-ahead file
			return j.checkWritable()
		}
		if j.tables.frozen == nil && j.tables.active.firstSeq >= targetSeq {
			return nil
		}
		if err := j.checkWritable(); err != nil {
			return err
		}
		if err := j.rotateTable(ctx); err != nil {
			return err
		}
	}
}

// makeRoom waits until the active table has space for the batch and the write-ahead file has space
// for its record. mu must be held; it is released during the wait.
func (j *journal) makeRoom(ctx context.Context, b *batch) error {
	for {
		if err := j.checkWritable(); err != nil {
			return err
		}
		t := j.tables.active
		fits := t.fits(b)
		// Records without entries use space in the write-ahead file but not in the table,
		// so limit their total size separately.
		logFull := t.emptyRecordBytes > walStep || t.wal.end > 4*int64(len(t.arena))+j.wal.step
		if fits && !logFull {
			return nil
		}
		if !fits && t.size == 0 {
			return fmt.Errorf("%w: a batch of %d bytes does not fit into a table of %d bytes: increase the Memory option",
				partd.ErrTooLarge, len(b.entries()), len(t.arena))
		}
		start, isStall := time.Now(), j.tables.frozen != nil
		err := j.rotateTable(ctx)
		if isStall {
			j.counters.stalls.Add(1)
			j.counters.stallTime.Add(int64(time.Since(start)))
		}
		if err != nil {
			return err
		}
	}
}

// drainTables writes all records to segments, so that the segments that the caller writes next are
// newer. It returns an unused table. mu must be held; it is released during the wait.
func (j *journal) drainTables(ctx context.Context) (*memtable, error) {
	for {
		if err := j.checkWritable(); err != nil {
			return nil, err
		}
		if j.tables.frozen != nil || j.seq != j.tables.active.firstSeq {
			if err := j.rotateTable(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if t, err := j.tables.tryTake(); t != nil || err != nil {
			return t, err
		}
		t, err := j.tables.takeTable(ctx)
		if err != nil {
			return nil, err
		}
		j.tables.put(t) // takeTable released mu, so there may be new records: check again
	}
}

// tableForDrop returns the table to use after the drop: a table without readers, if possible the
// active one. mu must be held; it is released during the wait. The caller must neither release mu
// nor change the table before the store is dropped.
func (j *journal) tableForDrop(ctx context.Context) (*memtable, error) {
	for {
		if err := j.checkWritable(); err != nil {
			return nil, err
		}
		for _, t := range []*memtable{j.tables.active, j.tables.frozen} {
			if t != nil && t.refs.Load() == 1 {
				return t, nil
			}
		}
		if t, err := j.tables.tryTake(); t != nil || err != nil {
			return t, err
		}
		// All tables are in use by Gets, which end soon.
		j.mu.Unlock()
		_ = canceled.Wait(ctx, time.After(time.Millisecond)) // the loop checks ctx
		j.mu.Lock()
		if ctx.Err() != nil { // ctx may also have ended during the wait for the lock
			return nil, canceled.Err(ctx)
		}
	}
}

// finish writes all data to segments and marks the store as cleanly closed. mu must be held.
func (j *journal) finish() error {
	if err := j.checkPoisoned(); err != nil {
		return err
	}
	if err := j.flush(context.Background()); err != nil {
		return err
	}
	if err := j.catalog.edit(func(m *manifest) { m.clean = true }); err != nil {
		return err
	}
	return j.wal.remove()
}
