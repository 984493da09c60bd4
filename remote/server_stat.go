package remote

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
)

// statistics are the last answer to stat, for which a store may have to read all
// that it holds. Where nothing was changed since, it is good for ten times as long
// as it took to count: other processes may change the store, too.
type statistics struct {
	changes atomic.Uint64 // that were finished
	one     semaphore     // of who counts

	last  partd.Stats
	after uint64 // of the changes
	at    time.Time
	took  time.Duration
}

func (c *conn) stat(r request, _ *decoder) (fill, error) {
	return func(a *answer) error {
		m := &c.space.statistics
		if err := m.one.acquire(c.ctx); err != nil {
			return err
		}
		defer m.one.release()
		changes, begin := m.changes.Load(), time.Now()
		if changes != m.after || begin.Sub(m.at) > 10*m.took {
			st, err := partd.Stat(c.ctx, c.space.store)
			if err != nil {
				return err
			}
			m.last, m.after, m.at, m.took = st, changes, time.Now(), time.Since(begin)
		}
		for _, n := range []int64{m.last.Keys, m.last.Bytes, m.last.Memory, m.last.Disk} {
			a.u64(uint64(n))
		}
		if r.flags&flagCount != 0 {
			a.u64(c.space.changes.Load())
		}
		return nil
	}, nil
}

// verify answers with what a check of the store found. There is one at a time, as it
// reads everything.
func (c *conn) verify(a *answer) error {
	if err := c.server.checking.acquire(c.ctx); err != nil {
		return err
	}
	defer c.server.checking.release()
	found, err := partd.Check(c.ctx, c.space.store)
	if err != nil && !errors.As(err, new(*partd.CorruptError)) || c.ctx.Err() != nil {
		return err
	}
	a.u64(uint64(found.Records))
	a.u64(uint64(found.Segments))
	count, n := a.hole(), uint32(0)
	for _, d := range damages(err) {
		a.buf = appendText(a.buf, cut(publicPath(d.Path)))
		a.u64(uint64(d.Offset))
		a.buf = appendText(a.buf, cut(publicText(d.Err.Error(), d)))
		n++
	}
	a.fill(count, n)
	return nil
}

// damages takes apart what a check found. An error of another kind is one of no
// file.
func damages(err error) []*partd.CorruptError {
	switch e := err.(type) {
	case nil:
		return nil
	case *partd.CorruptError:
		return []*partd.CorruptError{e}
	case interface{ Unwrap() []error }:
		var all []*partd.CorruptError
		for _, one := range e.Unwrap() {
			all = append(all, damages(one)...)
		}
		return all
	}
	if errors.As(err, new(*partd.CorruptError)) {
		return damages(errors.Unwrap(err))
	}
	return []*partd.CorruptError{{Path: "?", Offset: -1, Err: err}}
}
