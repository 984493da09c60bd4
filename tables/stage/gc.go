package stage

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// GCOptions configures GC. The zero value, and nil, remove only expired results.
type GCOptions struct {
	TTL  time.Duration // also remove results of this age; 0 means none
	Live []Any         // last stages of pipelines; their current results stay, whatever their age
}

// unreferencedAge is how long unreferenced data stays in a partd store. A process that does not share
// the directory may be about to store its info.
const unreferencedAge = 24 * time.Hour

// GCResult counts the results that GC removed and kept.
type GCResult struct {
	Removed   int
	Remaining int
}

// GC removes results that have expired or are older than GCOptions.TTL. It keeps the ancestors of
// results that stay, and results that are being computed or used. It also removes leftovers of killed
// processes. Removed tables still have files until Expire of their store.
func (r *Results) GC(ctx context.Context, o *GCOptions) (result GCResult, err error) {
	o = cmp.Or(o, new(GCOptions))
	keep := map[string]bool{}
	for _, last := range o.Live {
		stages, err := r.keysOf(last.node())
		if err != nil {
			return result, err
		}
		for _, k := range stages {
			keep[k.key] = true
		}
	}
	results, err := r.backend.list(ctx)
	if err != nil {
		return result, err
	}
	isOld := func(i *Info) bool { return i.expired(r.now()) || o.TTL > 0 && r.now().Sub(i.Created) >= o.TTL }
	for _, i := range results {
		if keep[i.Key] || !isOld(i) {
			keep[i.Key] = true
			for _, key := range i.Ancestors {
				keep[key] = true
			}
		}
	}
	for _, i := range results {
		if !keep[i.Key] {
			err := r.ifUnlocked(ctx, i.Key, func() error {
				current, err := r.backend.info(ctx, i.Key) // another process may have replaced it
				if err != nil || current == nil || !isOld(current) {
					return err
				}
				return r.ifUnused(ctx, filepath.Base(r.folder(current)), func() error {
					result.Removed++
					return r.backend.remove(ctx, i.Key)
				})
			})
			if err != nil {
				return result, err
			}
		}
	}
	result.Remaining = len(results) - result.Removed
	return result, errors.Join(r.sweepAll(ctx), r.backend.sweep(ctx, r.now().Add(-unreferencedAge)))
}

// ifUnlocked calls f while holding the lock of a key. If the lock is held, it does nothing.
func (r *Results) ifUnlocked(ctx context.Context, key string, f func() error) error {
	unlock, err := r.lock(ctx, key, false)
	if unlock == nil || err != nil {
		return err
	}
	return errors.Join(f(), unlock())
}

// ifUnused calls f while holding the lock of a name. If the lock is held, it does nothing. A run that
// uses a folder holds the folder's lock.
func (r *Results) ifUnused(ctx context.Context, name string, f func() error) error {
	unlock, err := r.flock(ctx, name, true, false)
	if unlock == nil || err != nil {
		return err
	}
	return errors.Join(f(), unlock())
}

// sweepAll removes leftovers of dead processes, unreferenced files, and their locks.
func (r *Results) sweepAll(ctx context.Context) error {
	for _, dir := range []string{tmpDir, filesDir, locksDir} {
		entries, err := os.ReadDir(r.path(dir))
		if err != nil {
			return err
		}
		for _, e := range entries {
			path := r.path(dir, e.Name())
			if dir == locksDir {
				err = r.ifUnused(ctx, e.Name(), func() error { return nil }) // ifUnused removes the lock's file
			} else if len(e.Name()) < keyLen { // hashes.RANDOM
				err = r.ifUnused(ctx, hashesLock, func() error { return os.RemoveAll(path) })
			} else {
				key := e.Name()[:keyLen]
				err = r.ifUnlocked(ctx, key, func() error { // ifUnlocked removes leftovers
					i, err := r.backend.info(ctx, key)
					if err != nil || dir != filesDir || i != nil && r.folder(i) == path {
						return err
					}
					return r.ifUnused(ctx, e.Name(), func() error {
						trash, err := r.temp(key)
						if err != nil {
							return err
						}
						return errors.Join(os.Rename(path, filepath.Join(trash, "old")), os.RemoveAll(trash))
					})
				})
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
