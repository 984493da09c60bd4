package filedir

import "errors"

// rollback undoes the first files of the batch under way after cause, and
// returns cause, as an unknown outcome if a sync failed. Where undoing fails, too,
// the record stays, and whoever takes the lock next undoes the batch.
func (d *Dir) rollback(done int, cause error) error {
	var err error
	for _, k := range d.batch.touched[:done] {
		err = errors.Join(err, d.rollbackKey(k))
	}
	err = errors.Join(err, d.rollbackTag())
	if d.sync && err == nil {
		// The cut must be on the disk before the record is gone.
		err = d.refuse(d.syncBatchCut(done))
	}
	if err == nil {
		err = d.clearRecord()
	}
	if err != nil {
		d.replay = true
		d.warn("a failed append will be undone by the next operation", err)
	}
	if d.failed != nil {
		return unknown(cause)
	}
	return cause
}

func (d *Dir) rollbackKey(k *keyFile) error {
	k.epoch = 0
	if k.created {
		name := k.path[len(d.dir)+1:]
		if k.made {
			delete(d.cache.byKey, k.key)
			if k.file != nil {
				d.cache.remove(k)
			}
			// It held nothing before: if closing it fails, nothing is lost.
			return errors.Join(closeOnce(&k.file), d.removeKeyFile(name))
		}
		return d.removeLongKey(name)
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
	k.dirty = !d.sync // a loss of power could bring back what was cut off
	return nil
}

func (d *Dir) syncBatchCut(done int) error {
	for _, k := range d.batch.touched[:done] {
		if k.created {
			continue
		}
		if err := d.syncPath(k.path); err != nil {
			return err
		}
	}
	return d.syncNames()
}
