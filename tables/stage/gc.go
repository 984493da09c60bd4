package stage

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// GCOptions are the options of GC. The zero value, and nil, remove expired results only.
type GCOptions struct {
	TTL  time.Duration // also removes results this old; 0: none
	Live []Any         // last stages of pipelines whose current results stay, whatever their age
}

// leftFor is how long data stays in a partd store that no result has: somebody who does not
// share the directory may be about to keep it.
const leftFor = 24 * time.Hour

// GCResult reports how many results GC removed and left.
type GCResult struct {
	Removed int
	Left    int
}

// GC removes results that have expired or are as old as GCOptions.TTL, except ancestors of
// results that stay. It leaves results alone that are being computed or used, and removes
// what killed processes left behind. The files of removed tables stay until Expire of their
// store.
func (r *Results) GC(ctx context.Context, o *GCOptions) (done GCResult, err error) {
	o = cmp.Or(o, new(GCOptions))
	stay := map[string]bool{}
	for _, last := range o.Live {
		stages, err := r.keysOf(last.node())
		if err != nil {
			return done, err
		}
		for _, k := range stages {
			stay[k.key] = true
		}
	}
	all, err := r.keep.list(ctx)
	if err != nil {
		return done, err
	}
	old := func(i *Info) bool { return i.expired(r.now()) || o.TTL > 0 && r.now().Sub(i.Made) >= o.TTL }
	for _, i := range all {
		if stay[i.Key] || !old(i) {
			stay[i.Key] = true
			for _, key := range i.Needs {
				stay[key] = true
			}
		}
	}
	for _, i := range all {
		if !stay[i.Key] {
			err := r.locked(ctx, i.Key, func() error {
				now, err := r.keep.info(ctx, i.Key) // it may have been made anew meanwhile
				if err != nil || now == nil || !old(now) {
					return err
				}
				return r.unused(ctx, filepath.Base(r.folder(now)), func() error {
					done.Removed++
					return r.keep.remove(ctx, i.Key)
				})
			})
			if err != nil {
				return done, err
			}
		}
	}
	done.Left = len(all) - done.Removed
	return done, errors.Join(r.sweepAll(ctx), r.keep.sweep(ctx, r.now().Add(-leftFor)))
}

// locked calls f with the lock of a key, unless somebody else has it.
func (r *Results) locked(ctx context.Context, key string, f func() error) error {
	unlock, err := r.lock(ctx, key, false)
	if unlock == nil || err != nil {
		return err
	}
	return errors.Join(f(), unlock())
}

// unused calls f unless somebody has the lock of a name, as readers have that of a folder's.
func (r *Results) unused(ctx context.Context, name string, f func() error) error {
	unlock, err := r.flock(ctx, name, true, false)
	if unlock == nil || err != nil {
		return err
	}
	return errors.Join(f(), unlock())
}

// sweepAll removes what was being made by those that died, files that no result has, and
// their locks.
func (r *Results) sweepAll(ctx context.Context) error {
	for _, dir := range []string{tmpDir, filesDir, locksDir} {
		entries, err := os.ReadDir(r.path(dir))
		if err != nil {
			return err
		}
		for _, e := range entries {
			path := r.path(dir, e.Name())
			if dir == locksDir {
				err = r.unused(ctx, e.Name(), func() error { return nil }) // which removes it
			} else if len(e.Name()) < keyLen { // of hashes
				err = r.unused(ctx, hashesLock, func() error { return os.RemoveAll(path) })
			} else {
				key := e.Name()[:keyLen]
				err = r.locked(ctx, key, func() error { // which sweeps
					i, err := r.keep.info(ctx, key)
					if err != nil || dir != filesDir || i != nil && r.folder(i) == path {
						return err
					}
					return r.unused(ctx, e.Name(), func() error {
						away, err := r.temp(key)
						if err != nil {
							return err
						}
						return errors.Join(os.Rename(path, filepath.Join(away, "old")), os.RemoveAll(away))
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
