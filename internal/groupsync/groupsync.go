// Package groupsync lets all who wait for one store's syncs share them.
package groupsync

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/internal/canceled"
)

// Group is the syncs of one store, of whose writes each has a position: a later write has a
// higher one. The zero Group has synced nothing. It is safe for concurrent use.
type Group struct {
	synced atomic.Uint64 // the last position that is synced
	came   atomic.Int64  // callers since the last round began to sync

	mu      sync.Mutex
	current *round // nil: nobody syncs

	// What the leader of a round leaves to the next one's.
	expected int64         // how many callers there are
	took     time.Duration // the sync
}

// round is one sync, led by one of those who wait for it.
type round struct {
	ended chan struct{}
	upTo  uint64 // the last position that err is the outcome of
	err   error
}

// Synced returns the last position that is synced.
func (g *Group) Synced() uint64 { return g.synced.Load() }

// Note notes that all is synced up to a position, by whomever.
func (g *Group) Note(upTo uint64) {
	for old := g.synced.Load(); old < upTo && !g.synced.CompareAndSwap(old, upTo); old = g.synced.Load() {
	}
}

// Wait returns once a position is synced, for which one of the callers calls its sync. That
// returns the last position that was written before it began, also with an error, which is that of
// all who wait for a position up to it. If it fails as the context of its own caller ends, the others
// try again.
func (g *Group) Wait(ctx context.Context, pos uint64, sync func(context.Context) (upTo uint64, err error)) error {
	if g.Synced() >= pos {
		return nil
	}
	g.came.Add(1)
	for g.Synced() < pos {
		g.mu.Lock()
		r := g.current
		leads := r == nil
		if leads {
			r = &round{ended: make(chan struct{})}
			g.current = r
		}
		g.mu.Unlock()
		if leads {
			if err := g.lead(ctx, r, sync); err != nil {
				return err
			}
			continue
		}
		if err := canceled.Wait(ctx, r.ended); err != nil {
			return err
		}
		if r.err != nil && pos <= r.upTo {
			return r.err
		}
	}
	return nil
}

// lead syncs for all who wait.
func (g *Group) lead(ctx context.Context, r *round, sync func(context.Context) (uint64, error)) error {
	defer func() { // also where sync panics
		g.mu.Lock()
		g.current = nil
		g.mu.Unlock()
		close(r.ended)
	}()
	g.gather()
	joined, begin := g.came.Swap(0), time.Now()
	upTo, err := sync(ctx)
	g.expected, g.took = joined+g.came.Load(), time.Since(begin)
	if err == nil {
		g.Note(upTo)
	} else if ctx.Err() == nil {
		r.upTo, r.err = upTo, err
	}
	return err
}

// gather lets those come whom the last round let go. Else they would wait for the round after
// this one, and every round would sync for half of all. They come as soon as they get to run,
// where they write again at once; a timer is too coarse for them.
func (g *Group) gather() {
	most := min(g.took/2, mostGather)
	for begin := time.Now(); g.came.Load() < g.expected && time.Since(begin) < most; {
		runtime.Gosched()
	}
}

// mostGather is how long a round is delayed at most, and half of what the last sync took.
const mostGather = 500 * time.Microsecond
