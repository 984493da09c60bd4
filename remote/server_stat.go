package remote

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
)

// statistics caches the last answer to stat, because some stores must read everything to compute
// the answer. A change by this server invalidates the answer. Because other processes may also
// change the store, the answer also expires after ten times the time that computing it took.
type statistics struct {
	changes  atomic.Uint64 // number of finished changes
	counting semaphore     // held while computing the answer

	stats         partd.Stats
	changesBefore uint64 // value of changes when computing stats began
	countedAt     time.Time
	duration      time.Duration
}

func (c *conn) stat(r request, _ *decoder) (fill, error) {
	return func(a *answer) error {
		m := &c.space.statistics
		if err := m.counting.acquire(c.ctx); err != nil {
			return err
		}
		defer m.counting.release()
		changes, begin := m.changes.Load(), time.Now()
		if changes != m.changesBefore || begin.Sub(m.countedAt) > 10*m.duration {
			st, err := partd.Stat(c.ctx, c.space.store)
			if err != nil {
				return err
			}
			m.stats, m.changesBefore, m.countedAt, m.duration = st, changes, time.Now(), time.Since(begin)
		}
		for _, n := range []int64{m.stats.Keys, m.stats.Bytes, m.stats.Memory, m.stats.Disk} {
			a.u64(uint64(n))
		}
		if r.flags&flagCount != 0 {
			a.u64(c.space.changes.Load())
		}
		return nil
	}, nil
}

// verify answers with the result of a check of the store. The server runs only one check at a time,
// because a check reads the whole store.
func (c *conn) verify(a *answer) error {
	if err := c.server.checking.acquire(c.ctx); err != nil {
		return err
	}
	defer c.server.checking.release()
	checked, err := partd.Check(c.ctx, c.space.store)
	if err != nil && !errors.As(err, new(*partd.CorruptError)) || c.ctx.Err() != nil {
		return err
	}
	a.u64(uint64(checked.Records))
	a.u64(uint64(checked.Segments))
	list := damages(err)
	a.u32(uint32(len(list)))
	for _, d := range list {
		a.buf = appendText(a.buf, truncate(publicPath(d.Path)))
		a.u64(uint64(d.Offset))
		a.buf = appendText(a.buf, truncate(publicText(d.Err.Error(), d)))
	}
	return nil
}

// damages returns all CorruptErrors in a check's error. It converts other errors to a CorruptError
// without a path.
func damages(err error) []*partd.CorruptError {
	switch e := err.(type) {
	case nil:
		return nil
	case *partd.CorruptError:
		return []*partd.CorruptError{e}
	case interface{ Unwrap() []error }:
		var list []*partd.CorruptError
		for _, inner := range e.Unwrap() {
			list = append(list, damages(inner)...)
		}
		return list
	}
	if errors.As(err, new(*partd.CorruptError)) {
		return damages(errors.Unwrap(err))
	}
	return []*partd.CorruptError{{Path: "?", Offset: -1, Err: err}}
}
