package objstore

import (
	"context"
	"crypto/rand"
	"errors"
	"time"
)

// Swept says what [Store.Sweep] deleted.
type Swept struct{ Objects, Bytes int64 }

// Sweep deletes leftovers that are more than a day old by the bucket's clock: segments that
// a dead writer never committed or that a Drop removed, records that waited and that nobody
// put into the log, and other debris. No writer commits a segment of half that age. Run Sweep now and then, in one process.
func (s *Store) Sweep(ctx context.Context) (Swept, error) {
	var swept Swept
	err := s.usable(ctx, true)
	if err == nil {
		err = s.sweep(ctx, &swept)
	}
	return swept, s.errorf("sweep", err)
}

func (s *Store) sweep(ctx context.Context, swept *Swept) error {
	now, err := s.bucketTime(ctx)
	if err != nil {
		return err
	}
	var old []Object
	err = s.retry(ctx, func(ctx context.Context) error {
		old = old[:0]
		for _, prefix := range []string{"seg/", scratchPrefix, waitPrefix} {
			for o, err := range s.bucket.List(ctx, prefix, "") {
				if err != nil {
					return err
				}
				if now.Sub(o.Modified)+s.opts.hooks.segmentAge > sweepAge {
					old = append(old, o)
				}
			}
		}
		return nil
	})
	if err != nil || len(old) == 0 {
		return err
	}
	// The log is read after the listing: what is that old and not in it by now will
	// never be.
	v, err := s.current(ctx)
	if err != nil {
		return err
	}
	counts := map[string]bool{}
	for _, g := range v.segments {
		counts[g.object] = true
	}
	for _, o := range old {
		m, waits := parseMember(o)
		if counts[o.Name] || waits && s.catalog.counts(m.writer, m.seq) {
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

// bucketTime returns what the clock of the bucket shows, which this machine's may be
// far from: the time of an object that is made for it.
func (s *Store) bucketTime(ctx context.Context) (now time.Time, err error) {
	name := scratchPrefix + rand.Text()
	if err := s.create(ctx, name, nil); err != nil {
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
