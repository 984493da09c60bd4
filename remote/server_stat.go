package remote

import (
	"context"
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

// get returns the statistics of store, and counts them if necessary.
func (m *statistics) get(ctx context.Context, store partd.Partd) (partd.Stats, error) {
	if err := m.counting.acquire(ctx); err != nil {
		return partd.Stats{}, err
	}
	defer m.counting.release()
	changes, begin := m.changes.Load(), time.Now()
	if changes != m.changesBefore || begin.Sub(m.countedAt) > 10*m.duration {
		st, err := partd.Stat(ctx, store)
		if err != nil {
			return partd.Stats{}, err
		}
		m.stats, m.changesBefore, m.countedAt, m.duration = st, changes, time.Now(), time.Since(begin)
	}
	return m.stats, nil
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
