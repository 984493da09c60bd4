package remote

import (
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
)

// statistics are the last answer to stat, for which a store may have to read all
// that it holds. Where nothing was changed since, it is good for ten times as long
// as it took to count: other processes may change the store, too.
type statistics struct {
	changes atomic.Uint64 // that were finished
	one     places        // of who counts

	last  partd.Stats
	after uint64 // of the changes
	at    time.Time
	took  time.Duration
}

func (c *conn) stat(a *answer) error {
	m := &c.server.statistics
	if err := m.one.enter(c.ctx); err != nil {
		return err
	}
	defer m.one.leave()
	changes, begin := m.changes.Load(), time.Now()
	if changes != m.after || begin.Sub(m.at) > 10*m.took {
		st, err := partd.Stat(c.ctx, c.server.store)
		if err != nil {
			return err
		}
		m.last, m.after, m.at, m.took = st, changes, time.Now(), time.Since(begin)
	}
	for _, n := range []int64{m.last.Keys, m.last.Bytes, m.last.Memory, m.last.Disk} {
		a.u64(uint64(n))
	}
	return nil
}
