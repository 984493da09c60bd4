package stage

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// GCOptions configures GC. With the zero value or nil, GC removes only expired results.
type GCOptions struct {
	TTL  time.Duration // also remove results that are at least this old; 0 disables this
	Live []Any         // last stages of pipelines; GC keeps their results at any age unless they are certainly outdated
}

// GCResult counts the results that GC removed and kept.
type GCResult struct {
	Removed   int
	Remaining int
}

// GC removes results that have expired or are older than GCOptions.TTL, and leftover files of killed processes. It
// keeps the ancestors of kept results, and results that are being computed or used. The files of removed tables stay in
// the store of tables until the store's Expire removes them.
func (r *Results) GC(ctx context.Context, o *GCOptions) (result GCResult, err error) {
	o = cmp.Or(o, new(GCOptions))
	results, err := r.backend.list(ctx)
	if err != nil {
		return result, err
	}
	keep, byKey, mayBeCurrent := map[string]bool{}, map[string]*Info{}, map[string]bool{}
	for _, info := range results {
		byKey[info.Key] = info
	}
	for _, last := range o.Live {
		stages, err := r.hashInputs(last.node())
		if err != nil {
			return result, err
		}
		r.setKnownKeys(stages, byKey)
		for _, k := range stages {
			keep[k.key] = true
			mayBeCurrent[k.name] = mayBeCurrent[k.name] || k.key == "" // without a key, any result may be current
		}
	}
	isOld := func(info *Info) bool { return info.expired(r.now()) || o.TTL > 0 && r.now().Sub(info.Created) >= o.TTL }
	for _, info := range results {
		if keep[info.Key] || mayBeCurrent[info.Stage] || !isOld(info) {
			keep[info.Key] = true
			for _, key := range info.Ancestors {
				keep[key] = true
			}
		}
	}
	for _, info := range results {
		if !keep[info.Key] {
			err := r.ifUnlocked(ctx, info.Key, func() error {
				current, err := r.backend.info(ctx, info.Key) // another process may have replaced the result
				if err != nil || current == nil || !isOld(current) {
					return err
				}
				return r.ifUnused(ctx, filepath.Base(r.folder(current)), func() error {
					result.Removed++
					return r.backend.remove(ctx, info.Key)
				})
			})
			if err != nil {
				return result, err
			}
		}
	}
	result.Remaining = len(results) - result.Removed
	return result, errors.Join(r.sweepAll(ctx), r.backend.sweep(ctx))
}

// ifUnlocked calls f while holding the lock of a key. It does nothing if the lock is held.
func (r *Results) ifUnlocked(ctx context.Context, key string, f func() error) error {
	unlock, err := r.lock(ctx, key, false)
	if unlock == nil || err != nil {
		return err
	}
	return errors.Join(f(), unlock())
}

// ifUnused calls f while holding the exclusive lock of a file name. It does nothing if the name is in use, for example
// by a run that uses the folder of this name.
func (r *Results) ifUnused(ctx context.Context, name string, f func() error) error {
	unlock, err := r.flock(ctx, name, lockMode{exclusive: true})
	if unlock == nil || err != nil {
		return err
	}
	return errors.Join(f(), unlock())
}

// sweepAll removes leftover files of killed processes, unreferenced folders, and unused lock files.
func (r *Results) sweepAll(ctx context.Context) error {
	for _, dir := range []string{tmpDir, filesDir, locksDir} {
		entries, err := os.ReadDir(r.path(dir))
		if err != nil {
			return err
		}
		for _, e := range entries {
			path := r.path(dir, e.Name())
			if dir == locksDir {
				// Releasing the lock removes the lock file.
				err = r.ifUnused(ctx, e.Name(), func() error { return nil })
			} else if len(e.Name()) < keyLen { // hashes.RANDOM, a leftover of hashes.save
				err = r.ifUnused(ctx, hashesLock, func() error { return os.RemoveAll(path) })
			} else {
				key := e.Name()[:keyLen]
				err = r.ifUnlocked(ctx, key, func() error { // Acquiring the lock removes unfinished results.
					info, err := r.backend.info(ctx, key)
					if errors.Is(err, errDamaged) { // the result will be computed again, in another folder
						info, err = nil, nil
					}
					if err != nil || dir != filesDir || info != nil && r.folder(info) == path {
						return err
					}
					return r.ifUnused(ctx, e.Name(), func() error {
						trash, err := r.makeTemp(key)
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
