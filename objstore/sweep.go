package objstore

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"time"
)

// SweepResult counts the objects that [Store.Sweep] deleted.
type SweepResult struct{ Objects, Bytes int64 }

// Sweep deletes unused objects that are more than a day old by the bucket's clock. Examples are
// segments that a dead writer did not commit, or that a Drop removed. Writers may be active, because
// they do not commit segments older than half a day. Run Sweep occasionally, in one process.
func (s *Store) Sweep(ctx context.Context) (SweepResult, error) {
	var swept SweepResult
	err := s.checkUsable(ctx, true)
	if err == nil {
		err = s.sweep(ctx, &swept)
	}
	return swept, s.errorf("sweep", err)
}

func (s *Store) sweep(ctx context.Context, swept *SweepResult) error {
	now, err := s.bucketTime(ctx)
	if err != nil {
		return err
	}
	var oldObjects []Object
	err = s.retry(ctx, func(ctx context.Context) error {
		oldObjects = oldObjects[:0]
		for _, prefix := range []string{"seg/", scratchPrefix, waitPrefix} {
			for o, err := range s.bucket.List(ctx, prefix, "") {
				if err != nil {
					return err
				}
				if now.Sub(o.Modified)+s.opts.hooks.segmentAge > sweepAge {
					oldObjects = append(oldObjects, o)
				}
			}
		}
		return nil
	})
	if err != nil || len(oldObjects) == 0 {
		return err
	}
	// Read the log after listing the objects. If the log does not refer to an old object now, it
	// never will, because writers do not commit old segments.
	v, err := s.flushAndRefresh(ctx)
	if err != nil {
		return err
	}
	inUse := map[string]bool{}
	for _, g := range v.segments {
		inUse[g.object] = true
	}
	for _, o := range oldObjects {
		m, isMember := parseMember(o)
		if inUse[o.Name] || isMember && s.catalog.hasRecord(m.writer, m.seq) {
			continue
		}
		if err := s.retry(ctx, func(ctx context.Context) error { return s.bucket.Delete(ctx, o.Name) }); err != nil {
			return err
		}
		swept.Objects++
		swept.Bytes += o.Size
	}
	return nil
}

// bucketTime returns the time of the bucket's clock, which may differ from this machine's.
func (s *Store) bucketTime(ctx context.Context) (now time.Time, err error) {
	name := scratchPrefix + rand.Text()
	// An earlier attempt may have created the object.
	if err := s.create(ctx, name, nil); err != nil && !errors.Is(err, fs.ErrExist) {
		return now, err
	}
	err = s.retry(ctx, func(ctx context.Context) error {
		for o, err := range s.bucket.List(ctx, name, "") {
			if err != nil {
				return err
			}
			now = o.Modified
			return nil
		}
		return errors.New("the listing does not show an object that was just created")
	})
	return now, errors.Join(err, s.retry(ctx, func(ctx context.Context) error { return s.bucket.Delete(ctx, name) }))
}
