package logstore

import (
	"context"
	"errors"
)

// syncer makes changes durable. locks.firstSync guards allSynced.
type syncer struct {
	locks       *storeLocks
	journal     *journal
	everyChange bool // Options.Sync
	allSynced   bool // everything written before durable was set is synced
}

func (y *syncer) syncAll() error {
	y.locks.mu.Lock()
	err, seq := y.journal.checkWritable(), y.journal.seq-1
	y.locks.mu.Unlock()
	if err != nil {
		return err
	}
	if err := y.makeDurable(); err != nil {
		return err
	}
	return y.waitDurable(seq)
}

// makeDurable syncs everything that was written before the first Sync. Later calls do nothing.
func (y *syncer) makeDurable() error {
	y.locks.firstSync.Lock()
	defer y.locks.firstSync.Unlock()
	if y.allSynced {
		return nil
	}
	// Files created after durable is set are synced by their creators, which hold catalog.mu.
	y.journal.catalog.mu.Lock()
	y.journal.durable.Store(true)
	y.journal.catalog.mu.Unlock()
	y.locks.mu.Lock()
	y.journal.waitSealed() // a seal that began before durable was set may not sync its segment
	files := y.journal.catalog.files
	var logs []*walFile
	for _, t := range y.journal.tables.inUse() {
		logs = append(logs, t.wal)
	}
	y.locks.mu.Unlock()
	for _, f := range files.files() {
		f.dirty.Store(true)
	}
	err := y.journal.syncExclusive(func() error {
		err := y.journal.syncData(files)
		for _, w := range logs {
			err = errors.Join(err, w.f.Sync())
		}
		return errors.Join(err, y.journal.syncParents())
	})
	if err != nil {
		return err
	}
	if err := y.journal.catalog.edit(func(*manifest) {}); err != nil {
		return err
	}
	y.allSynced = true
	return nil
}

// waitDurable waits until all records up to seq are durable. If it fails, it is unknown which
// records are on disk.
func (y *syncer) waitDurable(seq uint64) error {
	// Only the active write-ahead file can have unsynced records.
	err := y.journal.wal.group.Wait(context.Background(), seq, func(context.Context) (uint64, error) {
		y.locks.mu.Lock()
		w, seq, files := y.journal.tables.active.wal, y.journal.seq-1, y.journal.catalog.files
		y.locks.mu.Unlock()
		return seq, y.journal.wal.sync(w, seq, files)
	})
	if err != nil {
		return maybeApplied{err}
	}
	return nil
}

// acknowledge waits until record seq is durable, if Options.Sync is set.
func (y *syncer) acknowledge(seq uint64) error {
	if !y.everyChange {
		return nil
	}
	return commitError(y.waitDurable(seq))
}
