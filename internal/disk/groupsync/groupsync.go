// Package groupsync lets concurrent writers of a store share its syncs.
package groupsync

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
)

// Group shares the syncs of one store. Each write has a position, such as the number of its record;
// positions increase. The zero value is ready to use. A Group is safe for concurrent use.
type Group struct {
	synced  atomic.Uint64 // last synced position
	arrived atomic.Int64  // number of calls to Wait since the last sync began

	mu      sync.Mutex
	current *round // nil if no sync is running

	// Only the leader of a round uses these fields.
	expected int64         // expected number of callers in the next round
	duration time.Duration // duration of the last sync
}

// round is one sync, led by one of the callers waiting for it.
type round struct {
	done chan struct{}
	upTo uint64 // err applies to positions up to upTo
	err  error
}

// Synced returns the last synced position.
func (g *Group) Synced() uint64 { return g.synced.Load() }

// MarkSynced records that all writes up to a position are synced.
func (g *Group) MarkSynced(upTo uint64) {
	for old := g.synced.Load(); old < upTo && !g.synced.CompareAndSwap(old, upTo); old = g.synced.Load() {
	}
}

// Wait waits until position pos is synced. One of the concurrent callers calls its sync function on
// behalf of all. sync must return the last position written before the sync began, even after an error.
// All callers waiting for a position up to upTo return the same error. But if the context of
// sync's caller has ended, the other callers try again.
func (g *Group) Wait(ctx context.Context, pos uint64, sync func(context.Context) (upTo uint64, err error)) error {
	if g.Synced() >= pos {
		return nil
	}
	g.arrived.Add(1)
	for g.Synced() < pos {
		g.mu.Lock()
		r := g.current
		leads := r == nil
		if leads {
			r = &round{done: make(chan struct{})}
			g.current = r
		}
		g.mu.Unlock()
		if leads {
			if err := g.leadRound(ctx, r, sync); err != nil {
				return err
			}
			continue
		}
		if err := canceled.Wait(ctx, r.done); err != nil {
			return err
		}
		if r.err != nil && pos <= r.upTo {
			return r.err
		}
	}
	return nil
}

func (g *Group) leadRound(ctx context.Context, r *round, sync func(context.Context) (uint64, error)) error {
	defer func() { // even if sync panics
		g.mu.Lock()
		g.current = nil
		g.mu.Unlock()
		close(r.done)
	}()
	g.gatherWaiters()
	joined, begin := g.arrived.Swap(0), time.Now()
	upTo, err := sync(ctx)
	g.expected, g.duration = joined+g.arrived.Load(), time.Since(begin)
	if err == nil {
		g.MarkSynced(upTo)
	} else if ctx.Err() == nil {
		r.upTo, r.err = upTo, err
	}
	return err
}

// gatherWaiters waits briefly for the callers of the last round, because they usually write and
// sync again immediately. Otherwise they would miss this round, and every round would serve only
// half of the callers. gatherWaiters does not sleep, because timers are too coarse.
func (g *Group) gatherWaiters() {
	limit := min(g.duration/2, maxGather)
	for begin := time.Now(); g.arrived.Load() < g.expected && time.Since(begin) < limit; {
		runtime.Gosched()
	}
}

// maxGather is the maximum delay of a round by gatherWaiters.
const maxGather = 500 * time.Microsecond
