package partd

import (
	"errors"
)

// takeBack undoes the first files of the batch under way after cause, and
// returns cause. Where it fails, too, the record stays, and whoever takes the
// lock next undoes the batch.
func (f *File) takeBack(done int, cause error) error {
	var errs []error
	for _, k := range f.batch.touched[:done] {
		if err := f.takeBackKey(k); err != nil {
			errs = append(errs, err)
		}
	}
	if err := f.takeBackTag(); err != nil {
		errs = append(errs, err)
	}
	if f.sync && len(errs) == 0 {
		// The cut must be on the disk before the record is gone.
		if err := f.syncBatchCut(done); err != nil {
			f.refuse(err)
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		if err := f.clearRecord(); err == nil {
			return cause
		} else {
			errs = append(errs, err)
		}
	}
	f.replay = true
	f.log.Warn("partd: a failed append will be undone by the next operation", "dir", f.dir, "err", errors.Join(errs...))
	return cause
}

func (f *File) takeBackKey(k *keyFile) error {
	k.epoch = 0
	if k.created {
		name := k.path[len(f.dir)+1:]
		if k.made {
			return errors.Join(f.cache.forget(k), f.removeKeyFile(name))
		}
		return f.removeLongKey(name)
	}
	if k.file == nil {
		if err := f.makeRoomInBatch(); err != nil {
			return err
		}
		size := k.size
		if err := f.openKey(k, 0); err != nil {
			return err
		}
		k.size, k.epoch = size, 0
	}
	if err := k.file.Truncate(k.size); err != nil {
		return err
	}
	k.dirty = !f.sync // a loss of power could bring back what was cut off
	return nil
}

func (f *File) syncBatchCut(done int) error {
	for _, k := range f.batch.touched[:done] {
		if k.created {
			continue
		}
		if err := f.syncPath(k.path); err != nil {
			return err
		}
	}
	return f.fs.SyncDir(f.dir)
}
